#!/usr/bin/perl
# The crash test on an old kernel: Debian's cloud kernel of this release (6.1 with Debian 12), in qemu without
# hardware virtualization, whatever kernel this machine runs.
#
# The guest has no disk. Its initramfs holds the program with its libraries, this machine's perl, busybox, and the
# system tests themselves, so that what runs there is t/sys/77-crash.t to the letter. Kernel and busybox are Debian
# packages that apt-get download brings into the build directory, once; nothing is installed.
#
# From the environment:
#
#     KERNEL_TESTS    the tests, by spaces (77-crash.t 79-reload.t); others of t/sys work as well
#     KERNEL_KILLS    how often 77-crash.t kills the worker (100)
#     KERNEL_DEB      a kernel package of one's own
#     KERNEL_APPEND   more for the kernel's command line, say lsm=capability for one without Landlock
#     KERNEL_SECONDS  how long the guest may run (1800)
#     KERNEL_BUILD    where packages, initramfs and logs go (./kernel)
#     CONNECTFS       the program (./connectfs)
use strict;
use warnings;
use Config qw(%Config);
use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Path qw(make_path remove_tree);
use Test::More;
use Time::HiRes qw(time);

my $T = abs_path(dirname(__FILE__) . '/..');
my @tests = map { basename($_) } map { glob "$T/sys/$_" } split ' ', $ENV{KERNEL_TESTS} || '77-crash.t 79-reload.t';
my $kills = $ENV{KERNEL_KILLS} || 100;
my $seconds = $ENV{KERNEL_SECONDS} || 1800;
my $connectfs = abs_path($ENV{CONNECTFS} || './connectfs');
my $build = $ENV{KERNEL_BUILD} || 'kernel';

# What tests of t/sys use, where this machine has it; busybox has the same names, but not all their options
my @TOOLS = qw(cat cp dd diff find getfattr grep head ls mv rm sed setpriv tail tar wc);

sub skip_all { my ($why) = @_; $why =~ s/\s+/ /g; plan skip_all => $why }
sub have { my ($program) = @_; return (grep { -x "$_/$program" } split(/:/, $ENV{PATH} // ''), qw(/usr/sbin /sbin))[0] }
sub quoted { return join ' ', map { s/'/'\\''/gr =~ s/^|$/'/gr } @_ }

# Runs a command; its output and errors
sub output { my (@command) = @_; return scalar qx(@{[quoted(@command)]} 2>&1) }
sub must { my (@command) = @_; my $said = output(@command); die "@command: $said\n" if $?; return $said }

# ---- what the guest is made of ------------------------------------------------------------------

# The file of a package that was downloaded here once; undef and the reason
sub package_file {
	my ($name) = @_;
	my ($deb) = glob "$build/${name}_*.deb";
	return $deb if $deb;
	my $said = output('sh', '-c', 'cd "$1" && exec apt-get -o APT::Sandbox::User=root download "$2"', 'sh', $build, $name);
	($deb) = glob "$build/${name}_*.deb";
	return $deb // (undef, "$name can't be downloaded (apt-get update?): " . (split /\n/, $said)[-1]);
}

# The kernel that the cloud package of this release stands for
sub kernel_package {
	return $ENV{KERNEL_DEB} if $ENV{KERNEL_DEB};
	my ($deb) = glob "$build/linux-image-*.deb"; # as last time
	return $deb if $deb;
	my ($name) = output(qw(apt-cache depends linux-image-cloud-amd64)) =~ /Depends: (linux-image-[^\s<>]+)/;
	return (undef, 'apt-cache knows no linux-image-cloud-amd64 (apt-get update?)') unless $name;
	return package_file($name);
}

# Unpacks the named parts of a package; packages of later releases have all below usr
sub unpack_deb {
	my ($deb, $to, @parts) = @_;
	remove_tree($to);
	make_path($to);
	must('sh', '-c', 'deb=$1 to=$2; shift 2; dpkg-deb --fsys-tarfile "$deb" | tar -xf - -C "$to" --wildcards "$@" 2>/dev/null; exit 0',
		'sh', $deb, $to, @parts);
}

# A file to the same place in the guest; links become what they point to
sub copy_in {
	my ($root, $from, $to) = @_;
	$to = $root . ($to // $from);
	make_path(dirname($to));
	must('cp', '-RL', $from, $to) unless -e $to;
}

# The shared libraries of programs and modules, and ld.so: whatever absolute path ldd names
sub libraries {
	my %libs = map { $_ => 1 } output('ldd', @_) =~ m{(?:=> |^\t)(/\S+) \(0x}gm;
	return sort keys %libs;
}

sub spew { my ($file, $text) = @_; open(my $f, '>', $file) or die "$file: $!\n"; print $f $text; close $f or die "$file: $!\n" }

# The folder that becomes the root of the guest
sub make_root {
	my ($root, $busybox, $module) = @_;
	remove_tree($root);
	make_path(map { "$root/$_" } qw(bin dev etc proc run sys tmp connectfs/helpers connectfs/t/sys));
	my @programs = ($^X, map { my $d = have($_); $d ? "$d/$_" : () } @TOOLS);
	copy_in($root, $_) for @programs;
	copy_in($root, $connectfs, '/connectfs/connectfs');
	my $slow = dirname($connectfs) . '/t/connectfs-test';
	copy_in($root, $slow, '/connectfs/t/connectfs-test') if -x $slow;
	copy_in($root, "$T/lib", '/connectfs/t/lib');
	copy_in($root, "$T/sys/$_", "/connectfs/t/sys/$_") for @tests, 'helpers';
	# There is no compiler in the guest
	my ($cc) = (split ' ', $ENV{CC} || 'cc')[-1];
	for my $source (glob "$T/sys/helpers/*.c") {
		must($cc, qw(-std=gnu11 -O1 -pthread -o), "$root/connectfs/helpers/" . basename($source, '.c'), $source);
	}
	my @perl = grep { -d } @Config{qw(privlibexp archlibexp)};
	copy_in($root, $_) for @perl;
	remove_tree(map { glob "$root$_/{CORE,pod,unicore/lib}" } @perl);
	my @loaded = split /\n/, must('find', (map { "$root$_" } @perl), '-name', '*.so');
	copy_in($root, $_) for libraries(@programs, $connectfs, glob("$root/connectfs/helpers/*"), @loaded);
	copy_in($root, '/etc/ld.so.cache') if -e '/etc/ld.so.cache';
	symlink $^X, "$root/bin/perl" unless -e "$root/bin/perl";
	copy_in($root, $busybox, '/bin/busybox');
	for (qw(cat chmod echo insmod ip mkdir mount poweroff sh sleep stty tr umount uname)) {
		symlink 'busybox', "$root/bin/$_" unless -e "$root/bin/$_";
	}
	copy_in($root, $module, '/fuse.ko') if $module;
	copy_in($root, "$T/kernel/init.sh", '/init');
	chmod 0755, "$root/init";
	symlink '/proc/self/mounts', "$root/etc/mtab";
	spew("$root/etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
	spew("$root/etc/group", "root:x:0:\nnogroup:x:65534:\n");
}

# ---- the guest ----------------------------------------------------------------------------------

# Starts it and hands each line of its second serial port to the code. True when it has powered off by itself
sub run_guest {
	my ($kernel, $initramfs, $code) = @_;
	my $append = "console=ttyS0 loglevel=5 panic=-1 TESTS=" . join(',', @tests) . " KILLS=$kills SCALE=0.1";
	$append .= " $ENV{KERNEL_APPEND}" if $ENV{KERNEL_APPEND};
	# -cpu max: glibc of some distributions wants more than the oldest processor
	my @qemu = (qw(qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 1024 -nodefaults -no-user-config -display none -no-reboot),
		'-kernel', $kernel, '-initrd', $initramfs, '-append', $append, '-serial', "file:$build/console.log", '-serial', 'stdio');
	my $pid = open(my $guest, '-|') // die "fork: $!\n";
	if (!$pid) {
		# However this process ends: a guest that nobody reads from would go on
		syscall(157, 1, 9); # prctl(PR_SET_PDEATHSIG, SIGKILL)
		open(STDIN, '<', '/dev/null');
		open(STDERR, '>', "$build/qemu.log");
		exec @qemu;
		exit 127;
	}
	local $SIG{ALRM} = sub { diag "the guest has not ended in $seconds seconds"; kill KILL => $pid };
	local @SIG{qw(INT TERM HUP)} = (sub { kill KILL => $pid; exit 1 }) x 3;
	alarm $seconds;
	open(my $log, '>', "$build/guest.log") or die "$build/guest.log: $!\n";
	$log->autoflush(1);
	while (my $line = <$guest>) {
		$line =~ s/\r?\n\z//;
		print $log "$line\n";
		$code->($line);
	}
	alarm 0;
	return close $guest;
}

# TAP of the guest's tests becomes ours, each under the name of its file
my $test = 'guest';
my ($done, %ended) = (0);
sub relay {
	my ($line) = @_;
	if ($line =~ /^== begin (\S+)/) {
		$test = $1;
		note $line;
	} elsif ($line =~ /^== end (\S+) (\d+)/) {
		$ended{$1} = 1;
		is($2, 0, "$1: ended with status 0");
	} elsif ($line eq '== done') {
		$done = 1;
	} elsif ($line =~ /^1\.\.0 # SKIP ?(.*)/i) {
		SKIP: { skip "$test: $1", 1 }
	} elsif ($line =~ /^ok\b.*# skip ?(.*)/i) {
		SKIP: { skip "$test: $1", 1 }
	} elsif ($line =~ /^(not )?ok\b(?: \d+)?(?: - (.*))?/) {
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		ok(!$1, "$test: " . ($2 // ''));
	} elsif ($line =~ /^# kernel|^# not in force/) {
		diag $line =~ s/^# //r; # what prove shows, too
	} elsif ($line !~ /^1\.\.\d+$/) {
		$test eq 'guest' ? note $line : diag $line;
	}
}

# ---- all of it ----------------------------------------------------------------------------------

skip_all('kernel and program must be of one architecture, and this is the one for x86_64') unless $Config{archname} =~ /^x86_64/;
have($_) or skip_all("$_ is missing") for qw(apt-get dpkg-deb ldd);
have('qemu-system-x86_64') or skip_all('qemu-system-x86_64 is missing: apt-get install --no-install-recommends qemu-system-x86');
make_path($build);
$build = abs_path($build);
my ($kernel_deb, $no_kernel) = kernel_package();
$kernel_deb or skip_all($no_kernel);
my ($busybox_deb, $no_busybox) = package_file('busybox-static');
$busybox_deb or skip_all($no_busybox);

die "$connectfs is not there: run make check-kernel\n" unless -x $connectfs;
unpack_deb($kernel_deb, "$build/linux", '*/vmlinuz-*', '*/kernel/fs/fuse/fuse.ko*');
my ($kernel) = glob "$build/linux/{boot,usr/lib/modules/*}/vmlinuz*";
die "$kernel_deb: no kernel in it\n" unless $kernel;
my ($module) = glob "$build/linux/{,usr/}lib/modules/*/kernel/fs/fuse/fuse.ko*";
if ($module && $module =~ /\.xz$/) { must('xz', '-d', '-f', $module); $module =~ s/\.xz$// }
unpack_deb($busybox_deb, "$build/busybox", '*/busybox');
my ($busybox) = glob "$build/busybox/{,usr/}bin/busybox";
make_root("$build/root", $busybox, $module);
# Not compressed: what is saved by a smaller file the emulated processor would lose by unpacking it
must('sh', '-c', 'cd "$1/root" && find . | "$2" cpio -o -H newc -R 0:0 >"$1/initramfs"', 'sh', $build, $busybox);

diag 'package ' . basename($kernel_deb) . ", $kills kills; logs in " . basename($build) . '/*.log';
my $begin = time;
ok(run_guest($kernel, "$build/initramfs", \&relay), 'the guest has powered off by itself');
ok($done, 'it came to its end');
ok($ended{$_}, "$_ has run") for @tests;
my $console = do { local (@ARGV, $/) = "$build/console.log"; <> } // '';
my @complaints = $console =~ /^.*(?:BUG:|WARNING:|Oops|Kernel panic|blocked for more than|Out of memory).*$/mg;
is(join("\n", @complaints), '', 'the kernel has no complaint');
diag join "\n", (split /\n/, $console)[-20 .. -1] if !$done && $console =~ /(?:.*\n){20}/;
diag sprintf '%.0f s', time - $begin;
remove_tree("$build/root", "$build/initramfs") if Test::More->builder->is_passing;
done_testing;
