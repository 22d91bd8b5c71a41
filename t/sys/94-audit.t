# The audit log: each open has its line, whoever it was and however it went; no value; nobody waits for it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;
use IO::Socket::UNIX;
use Socket qw(SOCK_DGRAM);

need_slow();

my $canary = 'kanary' . unpack('H*', do { open(my $f, '<', '/dev/urandom'); read $f, my $b, 12; $b });
my $s = slow_setup({
	'a.properties' => "pw=\${slow:a:pw}\n",
	'nokey.properties' => "pw=\${slow:none:pw}\n",
	'gone.properties' => "pw=\${slow:gone:pw}\n",
	'late.properties' => "pw=\${slow:late:pw}\n",
	"two\nlines result=ok.properties" => "k=$canary\n",
});
slow_set($s, 'a', ".pw=$canary");
slow_set($s, 'gone', 'error=EKEYREVOKED', 'text=it is gone');
slow_set($s, 'late', 'hold=1', ".pw=$canary");
mkdir "$s->{dir}/audit", 0755;
my $log = "$s->{dir}/audit/log";
sub lines { my ($pattern) = @_; return grep { !defined $pattern || $_ =~ $pattern } split /\n/, -e $log ? slurp($log) : '' }
sub one {
	my ($pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eventually(sub { scalar lines($pattern) }, 5);
	is(scalar lines($pattern), 1, $what) or diag slurp($log);
}

# A file
my $m = mount_fs(slow => 1, source => $s->{settings}, settings => { 'connectfs.audit' => $log });
is(stx($log)->{mode}, 0600, 'the file is of mode 0600');
is(stx($log)->{uid}, $>, '… of whom mounts');
my $f = $m->path('a.properties');
is(slurp($f), "pw=$canary\n", 'it reads');
one(qr/^time=\S+Z msg=open connector=a\.properties version=0 uid=$> gid=@{[$) + 0]} pid=$$ comm=\S+ .*result=ok$/, '… and has one line: the one that waited');
slurp($f);
eventually(sub { lines(qr/connector=a/) == 2 }, 5, '… so has the one that did not');
my $cat = find_tool('cat');
my $p = start($cat, $f);
$p->wait_end(patience(5));
one(qr/ connector=a\.properties .* pid=@{[$p->pid]} comm=cat (?:.*)result=ok$/, 'another process by its name');
SKIP: {
	skip 'Landlock keeps the worker from looking at the executables of others', 1 if $m->status->{protections}{files}{in_force};
	one(qr{ pid=@{[$p->pid]} .* exe=\S*/cat(?: |$)}, '… and its executable, which is ours');
}
slow_set($s, 'a', ".pw=$canary-2");
eventually(sub { run(program(), 'refresh', $m->dir, 'a'); slurp($f) =~ /-2/ }, 5);
ok(eventually(sub { scalar lines(qr/ connector=a\.properties version=1 .*result=ok$/) }, 5), 'the version that was given');

# What fails
is_errno(($m->cat('nokey.properties'))[1], 'ENOKEY', 'no such secret');
one(qr/ connector=nokey\.properties uid=.*result=ENOKEY$/, '… is there by its errno, without a version');
is_errno(($m->cat('gone.properties'))[1], 'EKEYREVOKED', 'revoked');
one(qr/ connector=gone\.properties uid=.*result=EKEYREVOKED$/, '… as well');
$p = start($cat, $m->path('late.properties'));
ok(eventually(sub { $m->status->{parked} == 1 }, 5), 'an open waits');
is(scalar lines(qr/connector=late/), 0, '… and has no line yet');
$p->signal('INT');
ok($p->wait_end(patience(5)), '… it is interrupted');
one(qr/ connector=late\.properties uid=.* pid=@{[$p->pid]} comm=cat .*result=EINTR$/, '… and has its line');
ok(sysopen(my $w, $f, O_RDWR) ? 0 : 1, 'an open for writing fails');
if (is_root()) { one(qr/ connector=a\.properties uid=.*result=EROFS$/, '… and is there where we are asked') }
read_is($m->path("two\nlines result=ok.properties"), "k=$canary\n", 'a name with a newline');
one(qr/ connector="two\\nlines result=ok\.properties" version=0 .*result=ok$/, '… is escaped');
is(scalar grep({ !/^time=\S+Z msg=open connector=/ } lines()), 0, 'each line is whole');
eventually(sub { $m->metric('connectfs_audit_lines_total') == lines() }, 5);
is($m->metric('connectfs_audit_lines_total'), scalar lines(), 'the metrics count them');
is($m->metric('connectfs_audit_dropped_total'), 0, '… and none is missing');
is($m->status->{audit}{to}, $log, 'the status says where they go');
is($m->status->{audit}{lines}, scalar lines(), '… and counts');

# Others read as well
SKIP: {
	skip 'needs root', 3 unless is_root();
	my $shared = mount_fs(slow => 1, source => $s->{settings}, options => 'allow_other,mode=0444', settings => { 'connectfs.audit' => "$log.shared" });
	chmod 0755, base_dir();
	run(as_user(65534, 65533, $cat, $shared->path('a.properties')));
	ok(eventually(sub { slurp("$log.shared") =~ / uid=65534 gid=65533 pid=\d+ comm=cat .*result=ok$/m }, 5), 'another user, with uid and gid');
	# The worker is another user, to whom the file is closed
	ok($shared->stop, 'ended');
	unlink "$log.shared";
	chmod 0777, $s->{control};
	$shared = mount_fs(slow => 1, source => $s->{settings}, options => 'allow_other', settings => { 'connectfs.audit' => "$log.shared", 'connectfs.run.user' => 65534, 'connectfs.run.group' => 65534 });
	$shared->cat('nokey.properties');
	ok(eventually(sub { slurp("$log.shared") =~ /result=/ }, 5), 'a worker that runs as somebody else writes what root opened');
	$shared->stop;
}

# Many at once; each line is whole, and each open has one
my $before = lines();
my @readers = map { start('sh', '-c', 'i=0; while [ $i -lt 50 ]; do cat "$1" >/dev/null; i=$((i+1)); done', 'sh', $f) } 1 .. 4;
$_->wait_end(patience(60)) for @readers;
eventually(sub { lines() - $before >= 200 }, 5);
is(lines() - $before, 200, '200 opens of four at once: 200 lines');
is(scalar grep({ !/^time=\S+Z msg=open .*result=\S+$/ } lines()), 0, '… whole ones');
ok($m->stop, 'ends');
unlike(slurp($log), qr/\Q$canary\E/, 'no value in it');
unlike($m->log, qr/\Q$canary\E/, '… nor in the log');

# It is appended to, also after a crash
my $n = lines();
$m = mount_fs(slow => 1, source => $s->{settings}, settings => { 'connectfs.audit' => $log });
slurp($m->path('a.properties'));
eventually(sub { lines() > $n }, 5, 'another mount appends');
my $worker = $m->pids->{worker};
kill KILL => $worker;
eventually(sub { my $ids = eval { $m->pids }; $ids && $ids->{worker} != $worker && defined(($m->cat('a.properties'))[0]) }, 15);
$n = lines();
slurp($m->path('a.properties'));
eventually(sub { lines() > $n }, 5, '… and so does a worker that takes the place of another');
# One that waited when the worker died
slow_set($s, 'late', 'hold=1', ".pw=$canary");
$p = start($cat, $m->path('late.properties'));
ok(eventually(sub { $m->status->{parked} == 1 }, 5), 'an open waits');
$worker = $m->pids->{worker};
kill KILL => $worker;
eventually(sub { my $ids = eval { $m->pids }; $ids && $ids->{worker} != $worker }, 15);
slow_set($s, 'late', ".pw=$canary");
ok($p->wait_end(patience(15)), '… when the worker dies');
is($p->output, "pw=$canary\n", '… and is answered by the next one');
one(qr/ connector=late\.properties version=\d+ .* pid=@{[$p->pid]} comm=cat .*result=ok$/, '… which writes its line');
ok($m->stop, 'ends');

# What is no regular file is refused, at once
symlink "$s->{dir}/elsewhere", "$s->{dir}/link";
POSIX::mkfifo("$s->{dir}/fifo", 0600);
for (["$s->{dir}/link", qr/symbolic link/], ["$s->{dir}/fifo", qr/FIFO/], [$s->{dir}, qr/directory/i], ['/dev/null', qr/regular file/], ['audit.log', qr/absolute path/], ["$s->{dir}/none/log", qr/No such file/]) {
	my $r = mount_fails(slow => 1, source => $s->{settings}, settings => { 'connectfs.audit' => $_->[0] });
	is($r->{status}, 2, "audit=$_->[0]: refused");
	like($r->{err}, qr/connectfs\.audit: .*$_->[1]/, '… with a sentence');
	is(scalar @{$r->{mounts}}, 0, '… and nothing is mounted');
}
ok(!-e "$s->{dir}/elsewhere", 'nothing was made through the symlink');
my $inside = tmp_dir();
my $r = mount_fails(slow => 1, source => $s->{settings}, mountpoint => $inside, settings => { 'connectfs.audit' => "$inside/log" });
like($r->{err}, qr/connectfs\.audit: .*mount point/, 'nor will a file below the mount point do');

# The journal and syslog, played by us
my %at = map { $_ => "$s->{dir}/$_" } qw(journal syslog);
my %env = (CONNECTFS_TEST_JOURNAL => $at{journal}, CONNECTFS_TEST_SYSLOG => $at{syslog});
sub listener { my ($path) = @_; unlink $path; return IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $path) // die "$path: $!" }
sub datagram {
	my ($sock) = @_;
	my $in = '';
	vec($in, fileno $sock, 1) = 1;
	return undef unless select($in, undef, undef, patience(5));
	defined recv($sock, my $d, 65536, 0) or return undef;
	return $d;
}
like(mount_fails(slow => 1, source => $s->{settings}, settings => { 'connectfs.audit' => 'journal' }, env => \%env)->{err}, qr/connectfs\.audit: \Q$at{journal}\E: No such file/, 'without a journal: a sentence');
my $journal = listener($at{journal});
$m = mount_fs(slow => 1, source => $s->{settings}, settings => { 'connectfs.audit' => 'journal' }, env => \%env);
$m->cat('nokey.properties');
my $d = datagram($journal) // '';
like($d, qr/^MESSAGE=msg=open connector=nokey\.properties .*result=ENOKEY$/m, 'the journal gets the line');
like($d, qr/^CONNECTFS_CONNECTOR=nokey\.properties\n(?:.*\n)*CONNECTFS_PID=$$\n(?:.*\n)*CONNECTFS_RESULT=ENOKEY\n/m, '… and fields');
$m->cat("two\nlines result=ok.properties");
$d = datagram($journal) // '';
like($d, qr/^MESSAGE=msg=open connector="two\\nlines result=ok\.properties"/m, 'a newline in a name is escaped in the message');
my $raw = "two\nlines result=ok.properties";
like($d, qr/\nCONNECTFS_CONNECTOR\n\Q@{[pack('Q<', length $raw) . $raw]}\E\n/, '… and framed in its field');

# Nobody reads there: opens go on, and what is missing is counted and told
my $t0 = time;
slurp($m->path('a.properties')) for 1 .. 1500;
cmp_ok(time - $t0, '<', patience(10), '1,500 opens beside a journal that does not read');
ok(eventually(sub { ($m->metric('connectfs_audit_dropped_total') // 0) > 0 }, 5), '… what does not fit is counted');
eventually(sub { $m->metric('connectfs_audit_dropped_total') + $m->metric('connectfs_audit_lines_total') == 1502 }, 5);
is($m->status->{audit}{dropped}, $m->metric('connectfs_audit_dropped_total'), '… in the status too');
like(run(program(), 'status', $m->dir)->{out}, qr/audit log lacks \d+ opens/, '… and who asks for it is told');
my ($got, $lost) = (2, 0);
while (!$lost && defined($d = datagram($journal))) {
	$got++ if $d =~ /^MESSAGE=msg=open /;
	$lost = $1 if $d =~ /^CONNECTFS_DROPPED=(\d+)$/m;
}
is($got + $lost, 1502, 'what was taken and the number of what was not are all') or diag "$got $lost";
ok(scalar $m->log_lines(qr/audit log takes no lines/), 'the log says that it refused');
eventually(sub { scalar $m->log_lines(qr/audit log takes lines again/) }, 5, '… and that it does no longer');
unlike($m->log, qr/\Q$canary\E/, 'no value in the log');
ok($m->stop, 'ends');

my $syslog = listener($at{syslog});
$m = mount_fs(slow => 1, source => $s->{settings}, settings => { 'connectfs.audit' => 'syslog' }, env => \%env);
slurp($m->path('a.properties'));
$d = datagram($syslog) // '';
like($d, qr/^<86>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d connectfs\[@{[$m->pid('worker')]}\]: msg=open connector=a\.properties version=0 uid=\d+ .*result=ok$/, 'syslog gets the line');
unlike($d, qr/\Q$canary\E/, '… without a value');
ok($m->stop, 'ends');

# None by default
$m = mount_fs(slow => 1, source => $s->{settings});
is($m->status->{audit}{to}, undef, 'none by default');
ok($m->stop, 'ends');

done_testing;
