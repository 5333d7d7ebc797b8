/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor: what the kernel takes for a pod when nothing but the pod is made.
 *
 *   floor PODS DIRECTORY BINARY CGROUP...
 *
 * Makes PODS pods one after the other and takes them away again; prints milliseconds for each: "created removed".
 * A pod is what podlab makes of one with one container: a sandbox in namespaces of its own, a veth with addresses and
 * routes on both ends, its cgroups in every hierarchy (CGROUP...: directories to make them in), and a container in the
 * sandbox's net, ipc and uts namespaces with an overlay root, /proc, /dev, four files bound into it, pivot_root, exec.
 * DIRECTORY has lower/bin. BINARY is static and waits for ever when it is called without arguments.
 *
 * Runs in network, mount and PID namespaces of its own: whatever happens, only the cgroups can stay behind.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILES 4
#define STACK 65536

static char **cgroups;
static const char *directory, *binary;

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

#define TRY(call) do { if ((call) < 0) die(#call); } while (0)

static char *path(const char *format, ...)
{
	static char text[8][512];
	static int next;
	va_list args;

	next = (next + 1) % 8;
	va_start(args, format);
	vsnprintf(text[next], sizeof(text[next]), format, args);
	va_end(args);
	return text[next];
}

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(file);
	close(fd);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* rtnetlink(7) */

struct message {
	struct nlmsghdr head;
	char body[1024];
};

static void *start(struct message *m, int type, int flags, size_t size)
{
	memset(m, 0, sizeof(*m));
	m->head.nlmsg_len = NLMSG_LENGTH(size);
	m->head.nlmsg_type = type;
	m->head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	return NLMSG_DATA(&m->head);
}

static struct rtattr *add(struct message *m, int type, const void *data, size_t size)
{
	struct rtattr *a = (void *)((char *)m + NLMSG_ALIGN(m->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = RTA_LENGTH(size);
	if (size)
		memcpy(RTA_DATA(a), data, size);
	m->head.nlmsg_len = NLMSG_ALIGN(m->head.nlmsg_len) + RTA_ALIGN(a->rta_len);
	return a;
}

static void end(struct message *m, struct rtattr *a)
{
	a->rta_len = (char *)m + NLMSG_ALIGN(m->head.nlmsg_len) - (char *)a;
}

static void ask(int fd, struct message *m, const char *what)
{
	char answer[4096];
	struct nlmsghdr *head = (void *)answer;

	if (send(fd, m, m->head.nlmsg_len, 0) < 0 || recv(fd, answer, sizeof(answer), 0) < 0)
		die(what);
	errno = -((struct nlmsgerr *)NLMSG_DATA(head))->error;
	if (head->nlmsg_type == NLMSG_ERROR && errno)
		die(what);
}

static int route_socket(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		die("socket");
	return fd;
}

static void link_up(int fd, const char *name)
{
	struct message m;
	struct ifinfomsg *i = start(&m, RTM_NEWLINK, 0, sizeof(*i));

	i->ifi_index = if_nametoindex(name);
	i->ifi_flags = i->ifi_change = IFF_UP;
	ask(fd, &m, "link up");
}

static void address(int fd, const char *name, const char *text, int prefix, int flags)
{
	struct message m;
	struct ifaddrmsg *a = start(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof(*a));
	struct in_addr in;

	inet_pton(AF_INET, text, &in);
	a->ifa_family = AF_INET;
	a->ifa_prefixlen = prefix;
	a->ifa_index = if_nametoindex(name);
	add(&m, IFA_LOCAL, &in, sizeof(in));
	add(&m, IFA_ADDRESS, &in, sizeof(in));
	add(&m, IFA_FLAGS, &flags, sizeof(flags));
	ask(fd, &m, "address");
}

static void route(int fd, const char *name, const char *to, int prefix, const char *via)
{
	struct message m;
	struct rtmsg *r = start(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof(*r));
	struct in_addr in;
	int index = if_nametoindex(name);

	r->rtm_family = AF_INET;
	r->rtm_dst_len = prefix;
	r->rtm_table = RT_TABLE_MAIN;
	r->rtm_protocol = RTPROT_BOOT;
	r->rtm_type = RTN_UNICAST;
	r->rtm_scope = via ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	if (prefix) {
		inet_pton(AF_INET, to, &in);
		add(&m, RTA_DST, &in, sizeof(in));
	}
	if (via) {
		inet_pton(AF_INET, via, &in);
		add(&m, RTA_GATEWAY, &in, sizeof(in));
	}
	add(&m, RTA_OIF, &index, sizeof(index));
	ask(fd, &m, "route");
}

static void veth(int fd, const char *name, pid_t peer)
{
	struct message m;
	struct ifinfomsg *i = start(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(*i)), inner = { 0 };
	struct rtattr *info, *data, *other;

	(void)i;
	add(&m, IFLA_IFNAME, name, strlen(name) + 1);
	info = add(&m, IFLA_LINKINFO, NULL, 0);
	add(&m, IFLA_INFO_KIND, "veth", 4);
	data = add(&m, IFLA_INFO_DATA, NULL, 0);
	other = add(&m, VETH_INFO_PEER, &inner, sizeof(inner));
	add(&m, IFLA_IFNAME, "eth0", 5);
	add(&m, IFLA_NET_NS_PID, &peer, sizeof(peer));
	end(&m, other);
	end(&m, data);
	end(&m, info);
	ask(fd, &m, "veth");
}

/* One pod */

struct pod {
	int number;
	pid_t sandbox, container;
	int ready[2];
};

static const char *cgroup(int hierarchy, int number, const char *name)
{
	return path("%s/pod%d%s%s", cgroups[hierarchy], number, *name ? "/" : "", name);
}

static void join(int number, const char *name)
{
	for (int i = 0; cgroups[i]; i++)
		put(path("%s/cgroup.procs", cgroup(i, number, name)), "0");
}

static int sandbox(void *argument)
{
	struct pod *p = argument;
	char c;
	int fd;

	close(p->ready[1]);
	/* The veth is there when the parent has closed its end. */
	if (read(p->ready[0], &c, 1) < 0)
		die("read");
	fd = route_socket();
	link_up(fd, "lo");
	link_up(fd, "eth0");
	address(fd, "eth0", path("10.244.%d.%d", p->number / 250, p->number % 250 + 2), 16, IFA_F_NOPREFIXROUTE);
	route(fd, "eth0", "10.244.255.254", 32, NULL);
	route(fd, "eth0", "10.244.0.0", 16, "10.244.255.254");
	route(fd, "eth0", "", 0, "10.244.255.254");
	TRY(sethostname("pod", 3));
	TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	TRY(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	join(p->number, "pause");
	execl(binary, binary, NULL);
	die("exec");
	return 1;
}

static int container(void *argument)
{
	struct pod *p = argument;
	const char *spaces[] = { "net", "ipc", "uts" };
	const char *files[FILES] = { "hosts", "hostname", "resolv.conf", "log" };
	char root[256], own[240];

	for (int i = 0; i < 3; i++) {
		int fd = open(path("/proc/%d/ns/%s", p->sandbox, spaces[i]), O_RDONLY | O_CLOEXEC);

		if (fd < 0 || setns(fd, 0) < 0)
			die("setns");
		close(fd);
	}
	join(p->number, "container");
	TRY(unshare(CLONE_NEWCGROUP));
	snprintf(own, sizeof(own), "%s/pod%d", directory, p->number);
	snprintf(root, sizeof(root), "%s/root", own);
	TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	TRY(mount("overlay", root, "overlay", 0, path("lowerdir=%s/lower,upperdir=%s/up,workdir=%s/work", directory, own, own)));
	TRY(mount("proc", path("%s/proc", root), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	TRY(mount("tmpfs", path("%s/dev", root), "tmpfs", MS_NOSUID, "mode=755,size=64k"));
	for (int i = 0; i < 6; i++)
		TRY(mknod(path("%s/dev/%d", root, i), S_IFCHR | 0666, makedev(1, 3)));
	for (int i = 0; i < FILES; i++)
		TRY(mount(path("%s/%s", own, files[i]), path("%s/etc/%s", root, files[i]), NULL, MS_BIND, NULL));
	TRY(chdir(root));
	TRY(syscall(SYS_pivot_root, ".", "."));
	TRY(umount2(".", MNT_DETACH));
	TRY(chdir("/"));
	execl("/bin/wait", "wait", NULL);
	die("exec in the container");
	return 1;
}

static void make(struct pod *p, int fd)
{
	static char stack[STACK] __attribute__((aligned(16)));
	const char *files[FILES] = { "hosts", "hostname", "resolv.conf", "log" };
	const char *directories[] = { "", "/up", "/work", "/root" };
	char name[IFNAMSIZ], own[240];

	snprintf(own, sizeof(own), "%s/pod%d", directory, p->number);
	for (int i = 0; i < 4; i++)
		TRY(mkdir(path("%s%s", own, directories[i]), 0755));
	for (int i = 0; i < FILES; i++)
		put(path("%s/%s", own, files[i]), "127.0.0.1 localhost\n");
	for (int i = 0; cgroups[i]; i++) {
		TRY(mkdir(cgroup(i, p->number, ""), 0755));
		TRY(mkdir(cgroup(i, p->number, "pause"), 0755));
		TRY(mkdir(cgroup(i, p->number, "container"), 0755));
	}
	TRY(pipe2(p->ready, O_CLOEXEC));
	p->sandbox = clone(sandbox, stack + STACK, CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD, p);
	TRY(p->sandbox);
	snprintf(name, sizeof(name), "veth%d", p->number);
	veth(fd, name, p->sandbox);
	address(fd, name, "10.244.255.254", 32, 0);
	link_up(fd, name);
	route(fd, name, path("10.244.%d.%d", p->number / 250, p->number % 250 + 2), 32, NULL);
	close(p->ready[0]);
	close(p->ready[1]);
	/* Its exec closes the last end: the sandbox runs. */
	p->container = clone(container, stack + STACK, CLONE_NEWNS | CLONE_NEWPID | CLONE_VFORK | SIGCHLD, p);
	TRY(p->container);
}

static void unmake(struct pod *pods, int count)
{
	for (int i = 0; i < count; i++) {
		kill(pods[i].container, SIGKILL);
		kill(pods[i].sandbox, SIGKILL);
	}
	for (int i = 0; i < 2 * count; i++)
		TRY(wait(NULL));
	for (int i = 0; i < count; i++)
		for (int h = 0; cgroups[h]; h++) {
			rmdir(cgroup(h, i, "pause"));
			rmdir(cgroup(h, i, "container"));
			rmdir(cgroup(h, i, ""));
		}
}

int main(int argc, char **argv)
{
	int count, fd;
	struct pod *pods;
	double before, between;

	if (argc < 5) {
		fprintf(stderr, "usage: floor PODS DIRECTORY BINARY CGROUP...\n");
		return 2;
	}
	count = atoi(argv[1]);
	directory = argv[2];
	binary = argv[3];
	cgroups = argv + 4;
	pods = calloc(count, sizeof(*pods));
	TRY(unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID));
	if (fork()) {
		int status;

		TRY(wait(&status));
		return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	}
	TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	TRY(mount("proc", "/proc", "proc", 0, NULL));
	fd = route_socket();
	link_up(fd, "lo");
	before = now();
	for (int i = 0; i < count; i++) {
		pods[i].number = i;
		make(&pods[i], fd);
	}
	between = now();
	/* One that failed has said why. */
	if (waitpid(-1, NULL, WNOHANG))
		return 1;
	unmake(pods, count);
	printf("%.3f %.3f\n", (between - before) / count, (now() - between) / count);
	return 0;
}
