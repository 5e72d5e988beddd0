/* SPDX-License-Identifier: MIT
 *
 * The table of commands: what each takes, and the words its help and manual are made of.
 *
 * In texts an empty line separates paragraphs; a line that starts with two spaces is an example and
 * is shown as it stands.
 */
#include "commands.h"

#include <stddef.h>

#define TARGET(member) .offset = offsetof(struct options, member)

#define OPTION_PIPELINE_NAME                                                                       \
	{ "pipeline", 'P', OPTION_TEXT, "PIPELINE",                                                \
	  "process with this pipeline instead of the spool's default_pipeline", TARGET(pipeline) }

static const struct option_spec run_options[] = {
	{ "once", 0, OPTION_FLAG, NULL, "end when the spool is drained", TARGET(once) },
	{ "jobs", 'j', OPTION_NUMBER, "N", "run N recognisers at a time (default: one a core)",
	  TARGET(jobs), .min = 1, .max = 512 },
	{ "until", 0, OPTION_TIME, "HH:MM",
	  "at the next HH:MM, local time, finish what was begun and end with exit status 75",
	  TARGET(until) },
	{ NULL },
};

static const struct option_spec submit_options[] = {
	OPTION_PIPELINE_NAME,
	{ "priority", 'p', OPTION_NUMBER, "N", "priority of these documents, 0 (first) to 9 (last)",
	  TARGET(priority), .given = offsetof(struct options, priority_given), .max = 9 },
	{ "recursive", 'r', OPTION_FLAG, NULL,
	  "submit the files of folders too, keeping their sub-folders", TARGET(recursive) },
	{ NULL },
};

static const struct option_spec ocr_options[] = {
	{ "output", 'o', OPTION_FOLDER, "DIR",
	  "put one result folder per document into DIR, and print no text", TARGET(output) },
	{ "pipeline", 'P', OPTION_FILE, "PIPELINE",
	  "a shipped pipeline, or a pipeline file (default: tesseract)", TARGET(pipeline) },
	{ "jobs", 'j', OPTION_NUMBER, "N", "run N recognisers at a time (default: one a core)",
	  TARGET(jobs), .min = 1, .max = 512 },
	{ "languages", 'l', OPTION_TEXT, "LANGUAGES",
	  "Tesseract's codes of the languages to expect, joined with +: deu+eng", TARGET(languages) },
	{ NULL },
};

static const struct option_spec ls_options[] = {
	{ "state", 's', OPTION_CHOICE, "STATE", "only documents in this state", TARGET(state),
	  .choices = "waiting ready active deferred hold done flagged unpacked failed" },
	{ NULL },
};

static const struct option_spec retry_options[] = {
	{ "all", 'a', OPTION_FLAG, NULL, "every failed document", TARGET(all) },
	{ NULL },
};

static const struct option_spec models_options[] = {
	{ "output", 'o', OPTION_FILE, "PATH",
	  "pack: the archive (default: ORG--NAME.tar here); unpack: the folder that the model's is made "
	  "in (default: $CLOISTER_MODELS)",
	  TARGET(output) },
	{ NULL },
};

static const struct option_spec verify_options[] = {
	{ "probe", 0, OPTION_FOLDER, "DIR", "be the recogniser that is tried", TARGET(probe),
	  .hidden = true },
	{ NULL },
};

static const struct option_spec check_options[] = {
	{ "recogniser", 0, OPTION_FLAG, NULL,
	  "try the program that follows, with its arguments; the last of the options",
	  TARGET(recogniser), .last = true },
	{ "pipeline", 'P', OPTION_FILE, "FILE",
	  "with --recogniser: settings from this pipeline, and its recogniser where no program follows",
	  TARGET(pipeline) },
	{ "seconds", 0, OPTION_NUMBER, "N",
	  "with --recogniser: time for the hello and for each answer (default: 900, or more where the "
	  "pipeline's read_seconds is)",
	  TARGET(seconds), .min = 1, .max = 86400 },
	{ NULL },
};

static const struct option_spec help_options[] = {
	{ "man", 0, OPTION_FLAG, NULL, "print the manual page, in mdoc", TARGET(man),
	  .hidden = true },
	{ NULL },
};

static const struct option_spec no_options[] = { { NULL } };

const struct command commands[] = {
	{ "run", "[SPOOL]", "process the documents of a spool",
	  "Watches SPOOL/in and processes what is dropped there. Without --once it goes on until it is "
	  "told to stop. A SPOOL that does not exist is made.\n\n"
	  "TERM or INT finish the pages being read and end; a second one ends at once. Nothing is lost "
	  "either way: start it again.",
	  0, 1, ARGS_FOLDER, run_options, .no_spool = true, .no_json = true, .run = cmd_run },
	{ "submit", "FILE...", "put copies of documents into a spool",
	  "Copies each FILE into SPOOL/in/PIPELINE and prints what it is called there. A name that is "
	  "taken gets a number: report.pdf becomes report~2.pdf. When a line has been printed, the copy "
	  "survives a power cut.",
	  1, -1, ARGS_FILES, submit_options, .run = cmd_submit },
	{ "ocr", "FILE...", "read documents at once, without a spool",
	  "Prints the text of each FILE on standard output, with a heading when there are several. "
	  "A FILE of - is standard input. With --json, prints pages.jsonl: a line a page, with words "
	  "and boxes. With -o, puts the result folders into DIR, with the names of the files; a name "
	  "that is taken gets a number: report.pdf~2. Tickets beside the files are not looked at.",
	  1, -1, ARGS_FILES, ocr_options, .no_spool = true, .run = cmd_ocr },
	{ "status", "", "tell how a run gets on",
	  "Tells whether the spool is being worked on, how fast, how much is left, and how many "
	  "documents are in each state. May be asked at any time, from any process that can read "
	  "the spool. --json prints state/status.json with the keys running and queue added.",
	  0, 0, ARGS_NONE, no_options, .run = cmd_status },
	{ "ls", "", "list the documents of a spool",
	  "A line a document: state, pipeline, pages (of an archive: members), and path beneath "
	  "SPOOL/in. The states:\n\n"
	  "  waiting   dropped, not admitted yet\n"
	  "  ready     admitted, in the queue\n"
	  "  active    being read\n"
	  "  deferred  to be tried again later\n"
	  "  hold      put aside by hold\n"
	  "  done      finished\n"
	  "  flagged   finished, but some pages failed or are doubtful\n"
	  "  unpacked  an archive; its members are documents of their own\n"
	  "  failed    could not be read; show tells why",
	  0, 0, ARGS_NONE, ls_options, .run = cmd_ls },
	{ "show", "DOC...", "tell all that is known of a document",
	  "DOC is the path that ls prints, the end of it if no other document ends so, or a key.",
	  1, -1, ARGS_NONE, no_options, .run = cmd_show },
	{ "hold", "DOC...", "put documents of the queue aside",
	  "They stay aside, also over restarts, until release. DOC is named as in show.",
	  1, -1, ARGS_NONE, no_options, .no_json = true, .run = cmd_hold },
	{ "release", "DOC...", "put held documents back into the queue",
	  "DOC is named as in show.",
	  1, -1, ARGS_NONE, no_options, .no_json = true, .run = cmd_release },
	{ "retry", "DOC... | --all", "drop failed documents in again",
	  "Moves documents and their tickets from SPOOL/failed back to SPOOL/in. A document that was "
	  "dropped there in the meantime is never replaced. DOC is named as in show.",
	  0, -1, ARGS_NONE, retry_options, .no_json = true, .run = cmd_retry },
	{ "verify", "", "try whether programs and documents are locked in",
	  "Does in earnest what must not be possible, and prints a line for each promise: whether it "
	  "holds, who holds it, and what was found. Run it where, and as whom, the spool is run: in the "
	  "container, or by the same unit. The checks:\n\n"
	  "  read-only      this user cannot write to system, programs and their data\n"
	  "  spool          its parts can be written and lie on one file system\n"
	  "  own listeners  no running process of cloister waits for connections\n"
	  "  interfaces     none but lo, where the programs run\n"
	  "  connect, DNS   nothing can be reached from there, no name server asked\n"
	  "  listeners      nobody there waits for connections either\n"
	  "  sandbox KIND   in a process of this kind every forbidden act is refused\n"
	  "  offline        a foreign recogniser is told to stay offline, and by no proxy\n"
	  "  model PIPELINE its model is complete, locked, and not changed by a byte\n"
	  "  network PIPELINE\n                 the engine that holds its model cannot have a socket\n"
	  "  page PIPELINE  its recogniser reads a page of which the text is known;\n"
	  "                 its model, if it has one, is as it was locked\n\n"
	  "Who holds it: the surroundings (container, unit, rights), the empty network namespace that "
	  "cloister makes, or the sandbox. The exit status is 0 only when all hold, else 1; what cannot "
	  "be tried does not hold.",
	  0, 0, ARGS_NONE, verify_options, .run = cmd_verify },
	{ "models", "ACTION [NAME...]", "bring models in, and see that they stay as they are",
	  "What is fetched on a machine with a network is checked, locked and carried to the one without. "
	  "Nothing is downloaded, and no code of a model is run: Python and pickle files (*.bin, *.pt) are "
	  "listed and never opened. NAME is a folder, or a model beneath $CLOISTER_MODELS (default "
	  "/models) as org/name. The actions:\n\n"
	  "  plan [MODEL...]   files to fetch, licence to read, memory it takes\n"
	  "  list [DIR...]     a line a model: ready, or why not\n"
	  "  lock NAME...      write cloister.lock: SHA-256 of every file\n"
	  "  verify NAME...    compare every file with the lock\n"
	  "  diff NAME...      the same, naming what was added, changed, or is missing\n"
	  "  pack NAME         one archive of a locked model, its lock in front\n"
	  "  unpack ARCHIVE    a folder, when all in it is as its lock says\n\n"
	  "list calls a model ready, unlocked, differs (from its lock, by names and sizes; verify reads the "
	  "bytes), unsupported (by this engine), incomplete (parts of a download, files that are missing or "
	  "damaged) or refused (weights that are pickles). The pipelines looked through are the shipped ones, "
	  "and with --spool the spool's.\n\n"
	  "lock refuses what is incomplete. Names that begin with a dot (.git, .cache) are no part of a "
	  "model. It pins what was there when you looked: compare the hash that lock and unpack print, and "
	  "that stands in every result, with the one you wrote down where you fetched it.\n\n"
	  "The exit status is 0 when all is well (list: all are ready), 1 when something differs or failed, "
	  "and 78 when there is no such model or no lock.",
	  1, -1, ARGS_MODELS, models_options, .run = cmd_models },
	{ "check", "FILE... | --recogniser COMMAND...", "check pipelines, tickets, settings, recognisers",
	  "A file called cloister.yaml is checked as the settings of a spool, NAME.cloister.yaml as a "
	  "ticket, any other as a pipeline. The exit status is 78 when one of them is wrong.\n\n"
	  "With --recogniser, starts COMMAND as a run starts the recogniser of a pipeline, behind the same "
	  "sandbox, asks it what a run may ask, good, odd and hostile, and prints a line for each thing that "
	  "the protocol wants: whether it does that, and what was found. A line that does not apply has a "
	  "hyphen. The protocol is explained in cloister-airlock(7). The exit status is 0 only when it keeps "
	  "to all of it, else 1.\n\n"
	  "  cloister check --recogniser /opt/readers/reader.py --model /opt/models/a\n"
	  "  cloister check --pipeline night/pipelines/mine.yaml --recogniser",
	  0, -1, ARGS_FILES, check_options, .no_spool = true, .run = cmd_check },
	{ "help", "[COMMAND]", "explain a command", NULL,
	  0, 1, ARGS_COMMANDS, help_options, .no_spool = true, .no_json = true, .run = cmd_help },
	{ "completion", "bash", "print the completion script of a shell",
	  "For the running shell:\n\n  source <(cloister completion bash)",
	  1, 1, ARGS_SHELLS, no_options, .no_spool = true, .no_json = true, .run = cmd_completion },
	{ NULL },
};
