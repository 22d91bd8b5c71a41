# Starting: whose mount it is; twice, over a dead one, with bad settings; nothing hangs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
spew("$src/a.properties", "a=1\n");

sub refused {
	my ($r, $what, $pattern) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!$r->{timed_out}, "$what: no hang");
	is($r->{status}, 2, '… exit status 2');
	like($r->{err}, $pattern, '… and a sentence that says why');
}

# Twice
my $mnt = tmp_dir();
my $m = mount_fs(source => $src, mountpoint => $mnt);
my $sup = $m->pid('supervisor');
refused(mount_fails(source => $src, mountpoint => $mnt), 'mounted twice', qr/\Q$mnt\E/);
refused(mount_fails(source => $src, mountpoint => $mnt, background => 1), '… in the background', qr/\Q$mnt\E/);
refused(mount_fails(source => $src, mountpoint => "$mnt/../" . basename($mnt) . '/'), '… by another name', qr/\Q$mnt\E/);
symlink $mnt, base_dir() . '/link';
refused(mount_fails(source => $src, mountpoint => base_dir() . '/link'), '… through a symlink', qr/\S/);
like(mount_fails(source => $src, mountpoint => $mnt)->{err}, qr/\b$sup\b/, '… it names the process');
is(scalar($m->mounts), 1, '… the first is undisturbed');
read_is($m->path('a.properties'), "a=1\n", '… and serves');
is(run(program(), 'status', $mnt)->{status}, 0, '… and tells its status');

# While its worker is stopped
kill STOP => $m->pid('worker');
refused(mount_fails(source => $src, mountpoint => $mnt), 'mounted twice while the worker is stopped', qr/\Q$mnt\E/);
my $r = run(program(), 'status', $mnt, { timeout => 25 });
ok(!$r->{timed_out}, 'status of a stopped worker does not hang');
is($r->{status}, 2, '… exit status 2');
kill CONT => $m->pid('worker');
read_is($m->path('a.properties'), "a=1\n", 'it goes on');
ok($m->stop, 'ends');

# Dead, stopped and dead, dead with an open file, dead several times
$m = mount_fs(source => $src, mountpoint => $mnt);
kill KILL => values %{$m->pids};
$m->wait_gone(0.5);
is(scalar($m->mounts), 1, 'all three killed: a dead mount');
$m = mount_fs(source => $src, mountpoint => $mnt);
is(scalar($m->mounts), 1, '… is replaced');
read_is($m->path('a.properties'), "a=1\n", '… and serves');
sysopen(my $held, $m->path('a.properties'), O_RDONLY) or die;
chdir $mnt;
kill KILL => values %{$m->pids};
$m->wait_gone(0.5);
$m = mount_fs(source => $src, mountpoint => $mnt, background => 1);
is(scalar($m->mounts), 1, 'dead with an open file and a working directory: replaced, in the background');
chdir '/';
close $held;
read_is($m->path('a.properties'), "a=1\n", '… and serves');
kill STOP => $m->pid('worker');
kill KILL => $m->pid('supervisor');
eventually(sub { ConnectFS::Mount::process_gone($m->pid('supervisor')) }, 5);
my $p = start(program(), '-f', $src, $mnt);
my $came = eventually(sub { $p->ended || do { my @x = grep { $_->{dev} ne ($m->{dead_dev} //= '') } ConnectFS::Guard::mounts_below($mnt); @x } }, 10);
kill KILL => $m->pid('worker'), $m->pid('notifier');
ok($came, 'supervisor killed, worker stopped: a second start does not hang');
ok(eventually(sub { $p->ended || ((slurp_errno("$mnt/a.properties"))[0] // '') eq "a=1\n" }, 10), '… it serves in its place or says why not') or diag $p->errors;
like($p->errors, qr/\S/, '… (it said why not)') if $p->ended;
$p->signal('TERM');
$p->wait_end(patience(5));
ConnectFS::Guard::detach($_->{at}) for ConnectFS::Guard::mounts_below($mnt);

# What can't be mounted
my $d = tmp_dir();
spew("$d/file", '');
spew("$d/empty.properties", '');
refused(mount_fails(source => $src, mountpoint => "$d/none"), 'no such mount point', qr/\Q$d\E\/none/);
refused(mount_fails(source => $src, mountpoint => "$d/file"), 'a mount point that is a file', qr/\Q$d\E\/file/);
refused(mount_fails(source => "$d/nosource"), 'no such source', qr/\Q$d\E\/nosource/);
refused(mount_fails(source => "$d/nosource", background => 1), '… in the background', qr/\Q$d\E\/nosource/);
refused(mount_fails(source => "$d/empty.properties"), 'settings without a store', qr/connectfs\.store\.directory/);
settings_file("$d/nodir.properties", 'connectfs.store.directory' => "$d/nodir");
refused(mount_fails(source => "$d/nodir.properties"), 'a store directory that is not there', qr/nodir/);
spew("$d/notdir", '');
settings_file("$d/notdir.properties", 'connectfs.store.directory' => "$d/notdir");
refused(mount_fails(source => "$d/notdir.properties"), '… that is none', qr/notdir/);
SKIP: {
	skip 'needs an ordinary user', 6 if is_root();
	refused(mount_fails(source => $src, mountpoint => '/etc'), "a mount point of somebody else", qr{/etc});
	mkdir "$d/closed", 0;
	refused(mount_fails(source => "$d/closed"), 'a source without permission', qr/closed.*[Pp]ermission/);
}

# Bad settings: file, line and key, all of them at once
spew("$d/bad.properties", <<"E");
# a comment
connectfs.store.directory=$src
connectfs.mod=0400
connectfs.settle.ms=soon
bootstrap.servers=x:9092
connectfs.warm=perhaps
connectfs.poll.ms=1
connectfs.log.level=loud
connectfs.memory.lock=please
connectfs.unresolved=maybe
connectfs.wait.ms=-5
E
for my $background (0, 1) {
	$r = mount_fails(source => "$d/bad.properties", background => $background);
	refused($r, 'bad settings' . ($background ? ' in the background' : ''), qr/bad\.properties:3: connectfs\.mod: /);
	like($r->{err}, qr/bad\.properties:$_->[0]: \Q$_->[1]\E: /, "… $_->[1]")
		for [4, 'connectfs.settle.ms'], [6, 'connectfs.warm'], [7, 'connectfs.poll.ms'], [8, 'connectfs.log.level'], [9, 'connectfs.memory.lock'], [10, 'connectfs.unresolved'], [11, 'connectfs.wait.ms'];
	is(scalar @{$r->{mounts}}, 0, '… nothing mounted');
}
like($r->{err}, qr/connectfs\.mode/, 'a mistyped key: the right one is proposed');
$r = mount_fails(source => $src, settings => { 'connectfs.colour' => 'red' });
refused($r, 'an unknown setting on the command line', qr/-s connectfs\.colour/);
spew("$d/badesc.properties", "connectfs.store.directory=$src\nx=\\u00zz\n");
refused(mount_fails(source => "$d/badesc.properties"), 'settings that can\'t be parsed', qr/badesc\.properties:2/);

# A source that is not there any more below an existing mount: a second start says so, the first goes on
$m = mount_fs(source => $src, mountpoint => $mnt);
refused(mount_fails(source => "$d/nosource", mountpoint => $mnt), 'another source for a mounted one', qr/\S/);
read_is($m->path('a.properties'), "a=1\n", '… the first is undisturbed');

# Two mounts of one source
my $m2 = mount_fs(source => $src);
read_is($m2->path('a.properties'), "a=1\n", 'a second mount elsewhere');
ok($m2->stop, '… ends');
read_is($m->path('a.properties'), "a=1\n", '… without the first');
# A mount point that is not empty
my $full = tmp_dir();
spew("$full/x", '');
my $m3 = mount_fs(source => $src, mountpoint => $full);
read_is($m3->path('a.properties'), "a=1\n", 'a mount point that is not empty will do');
ok($m3->stop, '… ends');
ok(-e "$full/x", '… what lay there is there');

# connectfs.memory.lock=require
SKIP: {
	my $prlimit = find_tool('prlimit') or skip 'prlimit is not installed', 6;
	my @low = ($prlimit, '--memlock=0:0');
	@low = (@low, find_tool('setpriv'), '--bounding-set=-ipc_lock', '--inh-caps=-all') if is_root();
	skip 'root with capabilities locks memory whatever the limit', 6 if is_root() && !find_tool('setpriv');
	locks_memory() or skip 'a sanitizer has made mlock do nothing', 6;
	my $q = mount_fs(source => $src, prefix => \@low);
	read_is($q->path('a.properties'), "a=1\n", 'without locked memory: works');
	ok(scalar $q->log_lines(qr/level=warn.*lock/), '… with a warning') or diag $q->log;
	ok($q->stop, '… ends');
	refused(mount_fails(source => $src, prefix => \@low, settings => { 'connectfs.memory.lock' => 'require' }), 'memory.lock=require', qr/lock/);
}

done_testing;
