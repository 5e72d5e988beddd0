/* SPDX-License-Identifier: MIT
 *
 * forbidden-acts: the acts of try-forbidden beside those of probe_acts.h, X(NAME, EXPRESSION).  The expression prepares
 * nothing and is negative with errno when it was refused.  tests/sandbox/forbidden.t says which
 * kind may do which.
 */
#define ACTS(X)                                                                                    \
	/* network */\
	X(socket_inet_raw, socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)) \
	X(socket_unix_stream, try_socket(AF_UNIX, SOCK_STREAM)) \
	X(socket_unix_seqpacket, try_socket(AF_UNIX, SOCK_SEQPACKET)) \
	X(socket_unix_raw, try_socket(AF_UNIX, SOCK_RAW)) \
	X(socketpair_raw, socketpair_raw()) \
	X(socket_inet_upper_bits, \
	  syscall(SYS_socket, 0x100000000L | AF_INET, (long)SOCK_STREAM, 0L)) \
	X(socket_unix_dgram_upper_bits, \
	  syscall(SYS_socket, (long)AF_UNIX, 0x100000000L | SOCK_DGRAM, 0L)) \
	X(connect_open_inet, connect_open_inet()) \
	X(sendto_open_inet, sendto_open_inet()) \
	X(bind_open_inet, bind_open_inet()) \
	X(listen_open_inet, listen(t.stream, 1)) \
	X(accept_open_inet, accept(t.listener, NULL, NULL)) \
	X(accept4_open_inet, accept4(t.listener, NULL, NULL, 0)) \
	X(connect_unix_path, connect_unix_path()) \
	X(connect_unix_abstract, connect_unix_abstract()) \
	X(look_up_name, look_up_name()) \
	X(uring_enter, syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0)) \
	X(uring_register, syscall(SYS_io_uring_register, -1, 0, NULL, 0)) \
	/* reading */\
	X(open_symlink, read_one(open(in_dir("allowed/link"), O_RDONLY))) \
	X(open_dotdot, read_one(open(in_dir("own/../outside/secret"), O_RDONLY))) \
	X(openat_folder_fd, read_one(openat(t.dir_fd, "outside/secret", O_RDONLY))) \
	X(open_old_call, open_old_call()) \
	X(proc_parent_fd, proc_parent_fd()) \
	X(proc_parent_mem, open_proc(acts_on.other, "mem")) \
	X(proc_parent_environ, open_proc(acts_on.other, "environ")) \
	X(proc_self_mem, open("/proc/self/mem", O_RDWR)) \
	X(read_etc_shadow, read_one(open("/etc/shadow", O_RDONLY))) \
	X(read_own_link, read_own_link()) \
	X(handle_to, handle_to()) \
	X(open_handle, open_handle()) \
	/* changing files */\
	X(open_to_write, try_open("allowed/file", O_WRONLY)) \
	X(open_to_append, try_open("allowed/file", O_WRONLY | O_APPEND)) \
	X(open_truncating, try_open("outside/victim", O_RDONLY | O_TRUNC)) \
	X(create_beside_read, try_open("allowed/new", O_CREAT | O_WRONLY)) \
	X(creat_call, creat(in_dir("outside/new"), 0600)) \
	X(mkdir_outside, mkdir(in_dir("outside/folder"), 0700)) \
	X(rmdir_outside, rmdir(in_dir("outside/empty"))) \
	X(link_into_own, link(in_dir("outside/secret"), in_dir("own/stolen"))) \
	X(mkfifo_outside, mkfifo(in_dir("outside/fifo"), 0600)) \
	X(chmod_outside, chmod(in_dir("outside/secret"), 0600)) \
	X(chmod_read, chmod(in_dir("allowed/file"), 0644)) \
	X(chown_read, chown(in_dir("allowed/file"), geteuid(), getegid())) \
	X(utimens_read, utimensat(AT_FDCWD, in_dir("allowed/file"), NULL, 0)) \
	X(setxattr_read, setxattr(in_dir("allowed/file"), "user.cloister", "x", 1, 0)) \
	X(rename_into_own, rename(in_dir("outside/victim"), in_dir("own/victim"))) \
	X(rename_out_of_own, rename(in_dir("own/mine"), in_dir("outside/mine"))) \
	X(exchange_outside, \
	  syscall(SYS_renameat2, AT_FDCWD, in_dir("outside/victim"), AT_FDCWD, \
	    in_dir("outside/doomed"), 2u /* RENAME_EXCHANGE */)) \
	X(resize_slot, ftruncate(t.file_fd, 8192)) \
	X(allocate_slot, fallocate(t.file_fd, 0, 0, 8192)) \
	X(write_slot, write(t.file_fd, "x", 1)) \
	X(pwrite_slot, pwrite(t.file_fd, "x", 1, 0)) \
	X(memfd, memfd_create("hidden", 0)) \
	X(change_folder, fchdir(t.dir_fd)) \
	X(lock_file, flock(t.file_fd, LOCK_EX | LOCK_NB)) \
	X(set_owner, fcntl(t.unix_pair[0], F_SETOWN, acts_on.other)) \
	X(set_async, fcntl(t.unix_pair[0], F_SETFL, O_ASYNC)) \
	X(set_lease, fcntl(t.file_fd, F_SETLEASE, F_UNLCK)) \
	X(ioctl_device, ioctl_device()) \
	X(ioctl_set_owner, ioctl(t.unix_pair[0], FIOSETOWN, &acts_on.other)) \
	X(push_terminal_input, ioctl(t.unix_pair[0], TIOCSTI, "x")) \
	/* processes */\
	X(execat_true, execat_true()) \
	X(raw_clone, reap(syscall(SYS_clone, (long)SIGCHLD, 0, 0, 0, 0))) \
	X(vfork, do_vfork()) \
	X(clone3, do_clone3()) \
	X(clone_newuser, clone_namespace(CLONE_NEWUSER)) \
	X(clone_newns, clone_namespace(CLONE_NEWUSER | CLONE_NEWNS)) \
	X(clone_newpid, clone_namespace(CLONE_NEWUSER | CLONE_NEWPID)) \
	X(clone_newnet, clone_namespace(CLONE_NEWUSER | CLONE_NEWNET)) \
	X(clone_newipc, clone_namespace(CLONE_NEWUSER | CLONE_NEWIPC)) \
	X(clone_newuts, clone_namespace(CLONE_NEWUSER | CLONE_NEWUTS)) \
	X(clone_newcgroup, clone_namespace(CLONE_NEWUSER | CLONE_NEWCGROUP)) \
	X(start_thread, start_thread()) \
	X(kill_init, kill(1, 0)) \
	X(tkill_parent, syscall(SYS_tkill, acts_on.other, 0)) \
	X(sigqueue_parent, sigqueue(acts_on.other, 0, (union sigval){0})) \
	X(pidfd_of_parent, syscall(SYS_pidfd_open, acts_on.other, 0)) \
	X(pidfd_signal_parent, syscall(SYS_pidfd_send_signal, t.parent_pidfd, 0, NULL, 0)) \
	X(pidfd_take_fd, syscall(SYS_pidfd_getfd, t.parent_pidfd, t.secret_fd, 0)) \
	X(ptrace_me, ptrace(PTRACE_TRACEME, 0, NULL, NULL)) \
	X(vm_write_parent, vm_call(SYS_process_vm_writev)) \
	X(compare_parent, syscall(SYS_kcmp, acts_on.other, acts_on.other, 0, 0, 0)) \
	X(move_parent_pages, syscall(SYS_move_pages, acts_on.other, 0, NULL, NULL, NULL, 0)) \
	X(advise_parent, syscall(SYS_process_madvise, t.parent_pidfd, NULL, 0, MADV_COLD, 0)) \
	X(name_thread, name_thread()) \
	X(limit_parent, limit_parent()) \
	X(renice_parent, setpriority(PRIO_PROCESS, (id_t)acts_on.other, 0)) \
	X(schedule_parent, schedule_parent()) \
	X(pin_parent, pin_parent()) \
	/* namespaces and mounts */\
	X(join_namespace, setns(t.net_ns, CLONE_NEWNET)) \
	X(umount, syscall(SYS_umount2, in_dir("outside/secret"), 0)) \
	X(pivot_root, syscall(SYS_pivot_root, in_dir("outside"), in_dir("outside"))) \
	X(open_tree, syscall(SYS_open_tree, AT_FDCWD, "/", 0)) \
	X(fsopen, syscall(SYS_fsopen, "tmpfs", 0)) \
	X(move_mount, syscall(SYS_move_mount, t.dir_fd, "", t.dir_fd, "", 0)) \
	X(mount_setattr, syscall(SYS_mount_setattr, -1, "", 0, NULL, 0)) \
	/* the kernel */\
	X(add_key, syscall(SYS_add_key, "user", "cloister", "x", 1, -1 /* thread */)) \
	X(request_key, syscall(SYS_request_key, "user", "cloister-none", NULL, 0)) \
	X(load_module, syscall(SYS_init_module, NULL, 0, "")) \
	X(load_module_fd, syscall(SYS_finit_module, -1, "", 0)) \
	X(unload_module, syscall(SYS_delete_module, "no_such", O_NONBLOCK)) \
	X(load_kernel, syscall(SYS_kexec_load, 0, 1ul << 30, NULL, 0)) \
	X(reboot, syscall(SYS_reboot, 0, 0, 0, NULL)) \
	X(swapon, syscall(SYS_swapon, in_dir("outside"), 0)) \
	X(acct, syscall(SYS_acct, in_dir("outside"))) \
	X(syslog, syscall(SYS_syslog, 10 /* size */, NULL, 0)) \
	X(personality, syscall(SYS_personality, 0xffffffffl)) \
	X(sethostname, syscall(SYS_sethostname, "x", -1)) \
	X(set_clock, syscall(SYS_clock_settime, 0, (void *)8)) \
	X(fanotify, syscall(SYS_fanotify_init, 0, 0)) \
	X(quotactl, syscall(SYS_quotactl, -1, NULL, 0, NULL)) \
	X(set_name, prctl(PR_SET_NAME, "other")) \
	X(set_dumpable, prctl(PR_SET_DUMPABLE, 1)) \
	X(set_ptracer, prctl(PR_SET_PTRACER, -1, 0, 0, 0)) \
	X(seccomp, syscall(SYS_seccomp, 2 /* actions */, 0, &(uint32_t){0x7fff0000})) \
	X(setuid, setuid(getuid())) \
	X(raise_limit, raise_limit()) \
	X(newer_call, syscall(NR_CACHESTAT, -1, NULL, NULL, 0)) \
	X(no_such_call, syscall(1000)) \
	X(x86_ldt, x86_ldt()) \
	X(x86_ioperm, x86_ioperm()) \
	X(call_x32, syscall(0x40000000 | SYS_getppid)) \
	X(call_int80, call_int80()) \
	/* memory */\
	X(allocate_too_much, allocate_too_much()) \
	X(open_many, open_many()) \
	X(map_code, map_code()) \
	X(make_code, mprotect(t.page, 4096, PROT_READ | PROT_EXEC)) \
	X(make_code_pkey, syscall(SYS_pkey_mprotect, t.page, 4096, PROT_READ | PROT_EXEC, -1)) \
	X(shared_memory, shmget(IPC_PRIVATE, 4096, 0600)) \
	/* what must go on working */ \
	X(new_datagram, new_datagram()) \
	X(read_allowed, read_one(open(in_dir("allowed/file"), O_RDONLY))) \
	X(list_allowed, call(open(in_dir("allowed"), O_RDONLY | O_DIRECTORY))) \
	X(write_pipe, write(t.pipe[1], "x", 1)) \
	X(allocate, allocate()) \
	X(map_slot, map_slot()) \
	X(tell_time, clock_gettime(CLOCK_REALTIME, &(struct timespec){0})) \
	X(sort, sort()) \
	X(ask_terminal, isatty(t.pipe[0]) ? 0 : errno == ENOTTY ? 0 : -1) \
	X(abort_self, (abort(), 0)) \
	X(free_twice, free_twice()) \
	X(signal_self, kill(getpid(), 0)) \
	X(create_own, create_own()) \
	X(rename_own, rename(in_dir("own/mine"), in_dir("own/yours"))) \
	X(rename_across_own, rename(in_dir("own/mine"), in_dir("own/sub/mine"))) \
	X(rename_link_own, rename(in_dir("own/link"), in_dir("own/sub/link"))) \
	X(mkdir_own, mkdir(in_dir("own/folder"), 0700)) \
	X(chmod_own, chmod(in_dir("own/mine"), 0600)) \
	X(exec_program, exec_true()) \
	X(socketpair_stream, socketpair(AF_UNIX, SOCK_STREAM, 0, t.unix_pair)) \
	X(kill_child, kill_child()) \
	X(limit_child, limit_child()) \
	X(limit_self, prlimit(0, RLIMIT_CORE, NULL, &(struct rlimit){0})) \
	X(null_device, write(open("/dev/null", O_WRONLY), "x", 1))
