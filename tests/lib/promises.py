# SPDX-License-Identifier: MIT
"""Promises 1 to 6 and 9 of the README, looked for in a real spool.

    drops = {"null/book.pdf": book("Book", pages=3), "null/bad.pdf": Drop(b"nonsense", pages=0)}
    spool = spool_with(drops)
    ... disturb it; then, while no run is alive:
    problems = interrupted(spool, drops)     what must hold at any instant
    problems += recover(spool)               start it again: there is no other tool
    verdict = settled(spool, drops)          what must hold when all is done
    verdict.problems, verdict.pages, verdict.lost, ...

Documents dropped into one spool have different names and different bytes.
"""

import collections
import hashlib
import json
import pathlib

import e2e
import pdf


class Drop:
    """A document as it was dropped, and what has to become of it.

    pages: so many pages in out/; 0: it cannot be read and ends in failed/; None: either will do
    texts: what the pages have to say, in order, where that is known
    members: of an archive, {"0001-note.pdf": Drop}; pages is left out
    """

    def __init__(self, data, pages=None, texts=None, members=None):
        self.data, self.pages, self.texts, self.members = data, pages, texts, members
        self.sha256 = hashlib.sha256(data).hexdigest()


def book(words, pages):
    """A Drop of a PDF; the null recogniser at 72 dpi tells its pages apart by their widths."""
    contents = [pdf.text(f"{words} {n}".encode()) for n in range(pages)]
    return Drop(pdf.build(pdf.pages(contents, widen=1)), pages,
                [f"page {300 + n}x80" for n in range(pages)])


def spool_with(drops, *recogniser_arguments, config=""):
    """A Spool with these drops in it and the pipeline "null"; page files lie in a folder of its own,
    so that those left over are seen."""
    spool = e2e.Spool()
    (spool.path / "scratch").mkdir()
    spool.configure(f"settle_seconds: 0\nscratch: {spool.path}/scratch\n{config}")
    spool.null_pipeline("null", *recogniser_arguments, more="dpi: 72\n")
    for name, drop in drops.items():
        spool.drop(drop.data, name)
    return spool


class Verdict:
    """Documents and pages that are there; documents and pages lost and doubled; results torn."""

    def __init__(self):
        self.problems = []
        self.documents = self.pages = self.pages_not_ok = 0
        self.lost = self.doubled = self.torn = 0
        self.given_up = []  # reasons, of may_fail

    def add(self, other):
        """Sum over many spools."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self):
        return (f"{self.documents} documents, {self.pages} pages, {self.lost} lost, "
                f"{self.doubled} doubled, {self.torn} torn")


def recover(spool, *arguments, **options):
    """Start it again, once; problems if that run does not end with all done."""
    run = spool.run("-q", *arguments, **options)
    return [] if run.returncode in (0, 1) else [
        f"the next run ends with {run.returncode}", *run.err.splitlines()[-5:]]


def interrupted(spool, drops):
    """Promises 1, 2 and 5 at an instant at which nothing runs. Problems."""
    verdict = Verdict()
    for name, drop in drops.items():
        _originals(spool, name, drop, verdict, places=("in", "done", "failed"), moving=True)
    for path in _published(spool):
        _whole(path, verdict)
    of_path = collections.defaultdict(list)
    for token in spool.tokens():
        of_path[token.rsplit("-", 1)[1].split(".")[0]].append(token)
    verdict.problems += [f"a path has {len(tokens)} tokens: {', '.join(tokens)}"
                         for tokens in of_path.values() if len(tokens) > 1]
    return verdict.problems


def settled(spool, drops, originals="move", may_fail=()):
    """All of the promises when a run has ended that had nothing left to do. originals: policy of the
    pipelines; may_fail: reasons for which a sound document may be in failed/ all the same, because
    the test has killed its processes too often. A Verdict."""
    verdict, expected = Verdict(), {}
    for name, drop in drops.items():
        expected[name] = drop
        for member, inner in (drop.members or {}).items():
            expected[f"{name}/{member}"] = inner
        _originals(spool, name, drop, verdict, places={"move": ("done", "failed"), "delete": ("failed",),
                                                       "keep": ("in", "failed")}[originals])
    published = {str(path.relative_to(spool.root / "out")): path for path in _published(spool)}
    for name, drop in list(expected.items()):
        if drop.members and _reason(spool, name) in may_fail:
            expected = {other: one for other, one in expected.items()
                        if not other.startswith(f"{name}/")}
    for name, drop in expected.items():
        _document(spool, name, drop, published.get(name), verdict, may_fail)
    for name in sorted(published.keys() - expected.keys()):
        verdict.doubled += 1
        verdict.problems.append(f"out/{name} was never dropped")
    for why in sorted((spool.root / "failed").rglob("*.why.json")):
        name = str(why.relative_to(spool.root / "failed"))[:-len(".why.json")]
        if name not in expected:
            verdict.doubled += 1
            verdict.problems.append(f"failed/{name} was never dropped")
    verdict.problems += left_over(spool)
    return verdict


def left_over(spool):
    """Tokens, attempts, members, workers, half-written files and page files (of a spool that was
    told to keep them in SPOOL.path/scratch) that nobody needs any more."""
    state, found = spool.root / "state", []
    for folder in ("tmp", "members", "active", "deferred", "hold"):
        found += [f"left over: state/{folder}/{path.name}" for path in (state / folder).glob("*")]
    found += [f"left over: {token}" for token in spool.tokens() if token.startswith("ready/")]
    for path in spool.root.rglob("*"):
        if path.name.startswith(".") or path.name.endswith(".part"):
            found.append(f"left over: {path.relative_to(spool.root)}")
    found += [f"left over: {path}" for path in (spool.path / "scratch").glob("*")]
    return found


def _published(spool):
    return sorted({path.parent for name in ("document.json", "archive.json")
                   for path in (spool.root / "out").rglob(name)})


def where(spool, name, moving):
    """Places in which the original lies. On btrfs a power cut can leave a file under its old and its
    new name when a move was under way: with `moving` that counts as the new one."""
    paths = {place: spool.root / place / name for place in ("in", "done", "failed")}
    found = [place for place, path in paths.items() if path.is_file()]
    if moving and len(found) == 2 and found[0] == "in" and paths["in"].samefile(paths[found[1]]):
        del found[0]
    return found


def _originals(spool, name, drop, verdict, places, moving=False):
    """The original lies in one of these places, as it was."""
    found = where(spool, name, moving)
    if len(found) > 1:
        verdict.problems.append(f"{name} lies in {found}")
    if not found and places != ("failed",):  # else it may have been deleted
        verdict.lost += 1
        verdict.problems.append(f"{name}: the original is gone")
    for place in found:
        if place not in places:
            verdict.problems.append(f"{name} lies in {place}/")
        if (spool.root / place / name).read_bytes() != drop.data:
            verdict.torn += 1
            verdict.problems.append(f"{place}/{name} was modified")


def _whole(folder, verdict):
    """A published folder has all its files, each readable and with every page once. The Result, or
    None for an archive and for what cannot be read."""
    try:
        if (folder / "archive.json").exists():
            json.loads((folder / "archive.json").read_text("utf-8"))
            return None
        result = e2e.Result(folder)
        problems = e2e.result_problems(result)
        files, outputs = {path.name for path in folder.iterdir()}, set(result.document["outputs"])
        if any(page.get("figures") for page in result.pages):
            outputs.add("figures")
        if files != outputs:
            problems.append(f"holds {sorted(files)}, not {sorted(outputs)}")
        if len(result.pages) != result.document["counts"]["pages"]:
            problems.append(f"{len(result.pages)} pages, counted {result.document['counts']}")
    except (OSError, ValueError, KeyError, SyntaxError) as error:  # SyntaxError: of XML
        result, problems = None, [f"cannot be read: {error!r}"]
    verdict.torn += bool(problems)
    verdict.problems += [f"out/.../{folder.name}: {problem}" for problem in problems]
    return result


def _document(spool, name, drop, folder, verdict, may_fail):
    """One document: in out/ or in failed/, not both, and as it has to be."""
    why = spool.root / "failed" / (name + ".why.json")
    problems = []
    if folder and why.exists() and not drop.members:
        verdict.doubled += 1
        problems.append("lies in out/ and in failed/")
    elif not folder and not why.exists():
        verdict.lost += 1
        problems.append("is neither in out/ nor in failed/")
    elif not folder and _reason(spool, name) in may_fail:
        verdict.given_up.append(_reason(spool, name))
    elif folder and drop.pages == 0 or not folder and (drop.pages or drop.members):
        problems.append(f"is in {'out' if folder else 'failed'}/" + ("" if folder else ": "
                                                                     + why.read_text("utf-8")))
        verdict.lost += drop.pages or 0
    verdict.documents += bool(folder or why.exists())
    if why.exists():
        problems += _explained(spool, name, drop, why)
    if folder:
        problems += _result(folder, drop, verdict)
    verdict.problems += [f"{name}: {problem}" for problem in problems]


def _reason(spool, name):
    why = spool.why(name)
    return why and why.get("reason")


def _explained(spool, name, drop, why):
    try:
        told = json.loads(why.read_text("utf-8"))
    except ValueError as error:
        return [f"why.json cannot be read: {error}"]
    problems = [] if told.get("reason") and told.get("text") else ["why.json gives no reason"]
    if "sha256" in told and told["sha256"] != drop.sha256:
        problems.append("why.json has another sha256")
    stays = spool.root / "in" / name if "original" in told else None
    if stays and (spool.root / "failed" / name).exists():
        problems.append("is in failed/, and said to stay in in/")
    elif not (stays or spool.root / "failed" / name).is_file() and told.get("reason") != "vanished":
        problems.append("is not in failed/ beside its reason, nor does it stay in in/")
    return problems


def _result(folder, drop, verdict):
    result = _whole(folder, verdict)
    if drop.members is not None:
        listed = json.loads((folder / "archive.json").read_text("utf-8"))
        names = sorted(pathlib.PurePath(file["result"]).name for file in listed["files"].values())
        return ([] if listed["sha256"] == drop.sha256 else ["archive.json has another sha256"]) + (
            [] if names == sorted(drop.members) else [f"archive.json lists {names}"])
    if not result:
        return []
    problems, numbers = [], [page["page"] for page in result.pages]
    verdict.pages += len(set(numbers))
    verdict.pages_not_ok += sum(page["status"] != "ok" for page in result.pages)
    verdict.doubled += len(numbers) - len(set(numbers))
    if drop.pages is not None and len(numbers) != drop.pages:
        verdict.lost += max(0, drop.pages - len(set(numbers)))
        problems.append(f"has pages {numbers}, not 1 to {drop.pages}")
    if result.document["input"]["sha256"] != drop.sha256:
        problems.append("document.json has another sha256")
    if result.document["input"]["bytes"] != len(drop.data):
        problems.append("document.json has another size")
    if drop.texts and "pages.jsonl" in result.document["outputs"]:
        for line in result.lines():
            want = dict(enumerate(drop.texts, 1)).get(line["page"])
            if line["status"] == "ok" and line["result"]["text"] != want:
                verdict.torn += 1
                problems.append(f"page {line['page']} says {line['result']['text']!r}, not {want!r}")
    return problems
