# Under a service manager, which we play: ready when the mount answers, status, watchdog, stopping; and the unit.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;
use IO::Handle ();
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(AF_UNIX SOCK_DGRAM pack_sockaddr_un);

need_fuse();

my $d = tmp_dir();
mkdir "$d/src";
spew("$d/src/a.properties", "a=1\n");

sub manager {
	my ($name) = @_;
	my $sock;
	if ($name =~ /^@/) {
		socket($sock, AF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
		bind($sock, pack_sockaddr_un("\0" . substr $name, 1)) or die "bind $name: $!";
	} else {
		unlink $name;
		$sock = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $name) // die "$name: $!";
	}
	return $sock;
}

# The next message within so many seconds
sub heard {
	my ($sock, $seconds) = @_;
	my $in = '';
	vec($in, fileno $sock, 1) = 1;
	return undef unless select($in, undef, undef, $seconds // patience(10));
	defined recv($sock, my $m, 65536, 0) or return undef;
	return $m;
}
sub await {
	my ($sock, $pattern, $seconds) = @_;
	my $end = time + patience($seconds // 10);
	while (time < $end) {
		my $m = heard($sock, $end - time) // next;
		return $m if $m =~ $pattern;
	}
	return undef;
}

# Ready, when it answers
my $path = "$d/notify";
my $sock = manager($path);
my $mnt = tmp_dir();
my %env = (NOTIFY_SOCKET => $path, WATCHDOG_USEC => 400_000, WATCHDOG_PID => undef);
my $p = start(program(), '-f', "$d/src", $mnt, { env => \%env });
my $ready = await($sock, qr/^READY=1$/m, 15);
ok(defined $ready, 'READY=1') or diag $p->errors;
is($ready // '', "READY=1\nMAINPID=@{[$p->pid]}\nSTATUS=serving $mnt from $d/src\n", '… with the process that was started, and what it serves');
is(scalar(ConnectFS::Guard::mounts_below($mnt)), 1, '… it is mounted by then');
read_is("$mnt/a.properties", "a=1\n", '… and answers');

# Signs of life, twice in the time that they have
my ($t0, $n) = (time, 0);
while ($n < 6) { last unless defined await($sock, qr/^WATCHDOG=1$/, 3); $n++ }
is($n, 6, 'WATCHDOG=1, again and again');
cmp_ok((time - $t0) / 6, '<', 0.2 * 1.5 * patience(1), '… twice in the time that there is');
cmp_ok((time - $t0) / 6, '>', 0.1, '… and not all the time');

# Nothing of it for the children
my $status = JSON::PP->new->decode(slurp("$mnt/.connectfs/status.json"));
SKIP: {
	skip "the environment of processes that can't be dumped is root's to see", 2 unless is_root();
	unlike(slurp("/proc/$status->{$_}/environ"), qr/NOTIFY_SOCKET|WATCHDOG/, "$_: nothing of it in the environment") for qw(worker notifier);
}

# A worker dies
kill KILL => $status->{worker};
like(await($sock, qr/^STATUS=/m) // '', qr/^STATUS=the worker died \(signal 9 .*\); starting another$/m, 'the worker dies: the status says so');
like(await($sock, qr/^READY=1$/m) // '', qr/^STATUS=serving /m, '… and again that it serves');
read_is("$mnt/a.properties", "a=1\n", '… which it does');
is(JSON::PP->new->decode(slurp("$mnt/.connectfs/status.json"))->{supervisor}, $p->pid, '… of the same main process');

# The end
$p->signal('TERM');
like(await($sock, qr/STOPPING/) // '', qr/^STOPPING=1$/m, 'SIGTERM: STOPPING=1');
ok($p->wait_end(patience(5)), '… and it ends');
is($p->{wait}, 0, '… well');
is(scalar(ConnectFS::Guard::mounts_below($mnt)), 0, '… unmounted');
ok(!defined await($sock, qr/READY/, 0.1), '… and says nothing else');

# Another's watchdog; an abstract socket; unmounted by somebody; a name with a newline
mkdir "$d/two\nlines";
my $abstract = "\@connectfs-test-$$";
my $other = manager($abstract);
$p = start(program(), '-f', "$d/src", "$d/two\nlines", { env => { NOTIFY_SOCKET => $abstract, WATCHDOG_USEC => 20_000, WATCHDOG_PID => $$ } });
is(await($other, qr/READY/) // '', "READY=1\nMAINPID=@{[$p->pid]}\nSTATUS=serving $d/two?lines from $d/src\n", 'an abstract socket; a newline makes no line');
ok(!defined await($other, qr/WATCHDOG/, 0.3), "… another's watchdog is left alone");
ConnectFS::Guard::detach("$d/two\nlines");
like(await($other, qr/STOPPING/) // '', qr/^STOPPING=1$/m, '… unmounted by somebody: STOPPING=1');
ok($p->wait_end(patience(5)), '… and it ends');

# A start that fails is no READY
my $r = run(program(), '-f', "$d/none", $mnt, { env => \%env });
is($r->{status}, 2, 'a start that fails ends');
ok(!defined await($sock, qr/READY/, 0.1), '… without READY');

# In the background the manager is somebody else's
my $m = mount_fs(source => "$d/src", background => 1, env => \%env);
ok(!defined heard($sock, 0.5), 'in the background: not a word');
unlike(slurp('/proc/' . $m->pid('worker') . '/environ'), qr/NOTIFY_SOCKET|WATCHDOG/, '… nor a variable for the children') if is_root();
ok($m->stop, '… ends');
ok(!defined heard($sock, 0.1), '… in silence');

# A manager that is gone, or no manager at all, is no obstacle
close $sock;
$m = mount_fs(source => "$d/src", env => \%env);
read_is($m->path('a.properties'), "a=1\n", 'a manager that is gone is no obstacle');
ok($m->stop, '… ends');

# With the capabilities that the unit leaves
my $unit = slurp("$FindBin::Bin/../../contrib/systemd/connectfs\@.service.in");
SKIP: {
	skip 'needs root', 3 unless is_root() && find_tool('setpriv');
	my $caps = join ',', map { lc s/^CAP_/+/r } map { split ' ' } $unit =~ /^CapabilityBoundingSet=(.*)$/mg;
	my @bound = (find_tool('setpriv'), '--no-new-privs', '--inh-caps=-all', "--bounding-set=-all,$caps");
	chmod 0711, base_dir();
	chmod 0755, $d;
	my $b = mount_fs(source => "$d/src", prefix => \@bound, options => 'allow_other', settings => { 'connectfs.run.user' => 65534, 'connectfs.mode' => '0444' });
	read_is($b->path('a.properties'), "a=1\n", 'within the capabilities of the unit it mounts, and runs the worker as another user');
	is(stx('/proc/' . $b->pid('worker'))->{mode} ? (slurp('/proc/' . $b->pid('worker') . '/status') =~ /^Uid:\t(\d+)/m)[0] : '', 65534, '… as it should');
	ok($b->stop, '… and ends it');
}

# The unit itself
for my $option (qw(ProtectSystem ProtectHome PrivateTmp PrivateDevices PrivateMounts ProtectKernelTunables ProtectKernelModules ProtectControlGroups ReadOnlyPaths InaccessiblePaths DynamicUser ProtectProc PrivateNetwork RootDirectory BindPaths)) {
	unlike($unit, qr/^\s*$option=/m, "the unit has no $option=, which would hide the mount");
}
SKIP: {
	my $tool = find_tool('systemd-analyze');
	skip 'systemd-analyze is not installed', 1 unless $tool;
	my $u = tmp_dir();
	(my $text = $unit) =~ s{\@bindir\@/connectfs}{program()}e;
	spew("$u/connectfs\@.service", $text);
	my $v = run($tool, 'verify', '--man=no', "$u/connectfs\@test.service", { env => { SYSTEMD_UNIT_PATH => "$u:" }, timeout => 60 });
	skip "systemd-analyze can't work here: $v->{err}", 1 if $v->{err} =~ /Failed to (?:initialize manager|connect)/;
	my @found = grep { /connectfs/ } split /\n/, "$v->{out}$v->{err}";
	is(join("\n", @found), '', 'systemd-analyze verify finds nothing in the unit') or diag $v->{err};
}

# The supervisor is killed, with all that is its own: what the manager has stored goes on
SKIP: {
	my $python = find_tool('python3') // skip 'no python3', 10;
	my $mnt = tmp_dir();
	my $secret = "$d/s.properties";
	mkdir "$d/stored";
	spew($secret, "k=one\n");
	spew("$d/stored/b.properties", "# long enough for two reads\nk=\${file:$secret:k}\n");
	my $orders = "$d/orders";
	POSIX::mkfifo($orders, 0600) or die "mkfifo: $!";
	my $p = start('sh', '-c', 'exec "$@" < "$0"', $orders, $python, helper_path('manager.py'), "$d/fds", program(), '-f', "$d/stored", $mnt);
	open(my $tell, '>', $orders) or die;
	$tell->autoflush(1);
	ok(eventually(sub { $p->output =~ /^ready (\d+)/m }, 15), 'a manager that stores descriptors') or diag $p->errors;
	my ($mount) = ConnectFS::Guard::mounts_below($mnt);
	is(slurp("$mnt/b.properties"), "# long enough for two reads\nk=one\n", '… it reads');
	my @times = map { "$mnt$_" } '', '/b.properties', '/.connectfs', '/.connectfs/version';
	my $times_of = sub { return [map { stx($_, force_sync => 1)->{mtime_ns} } @times] };
	my $started = sub { return JSON::PP->new->decode(slurp("$mnt/.connectfs/status.json"))->{started} };
	my ($before, $since) = ($times_of->(), $started->());
	open(my $held, '<:raw', "$mnt/b.properties") or die;
	sysread $held, my $begin, 10;
	print $tell "kill\n";
	ok(eventually(sub { () = $p->output =~ /^ready/mg; (() = $p->output =~ /^ready/mg) == 2 }, 15), 'the supervisor is killed: another goes on') or diag $p->errors;
	is_deeply([ConnectFS::Guard::mounts_below($mnt)], [$mount], '… with the same mount');
	is(eval { slurp("$mnt/b.properties") }, "# long enough for two reads\nk=one\n", '… which can be read') or diag $@;
	sysread $held, my $rest, 100;
	is($begin . ($rest // "($!)"), "# long enough for two reads\nk=one\n", '… a file that was open reads on');
	is_deeply($times_of->(), $before, '… no time has moved');
	is($started->(), $since, '… and the mount is as old as it is');
	close $held;
	print $tell "stop\n";
	ok(eventually(sub { $p->output =~ /^stopped (\d+) (\d+)/m }, 10), '… it can be ended') or diag $p->errors;
	is($p->output =~ /^stopped (.*)/m ? $1 : '', '0 0', '… and leaves nothing with the manager');
}

done_testing;
