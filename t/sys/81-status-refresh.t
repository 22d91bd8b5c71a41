# The verbs status and refresh; the mount options.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $cfs = program();
my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "user=rw\n");
spew("$src/orders.properties", "name=orders-source\nu=\${file:$S:user}\n");
spew("$src/" . 'long' x 30 . '.properties', "u=\${file:$S:user}\nx=\${file:$sec/" . 'p' x 120 . ":nokey}\n");
spew("$src/idle.properties", "u=\${file:$S:user}\n");
my $m = mount_fs(source => $src);
slurp($m->path('orders.properties'));

# status
my $r = run($cfs, 'status', $m->dir);
is($r->{status}, 0, 'status: 0 while nothing is broken') or diag $r->{out} . $r->{err};
like($r->{out}, qr/^orders\.properties\s+ok\b/m, '… a line for each connector');
like($r->{out}, qr/^idle\.properties\s+idle\b/m, '… also for an idle one');
like($r->{out}, qr/\bfile\b.*s\.properties/, '… and for each secret');
unlike($r->{out}, qr/\e/, '… without colour where it is no terminal');
$m->cat('long' x 30 . '.properties');
$r = run($cfs, 'status', $m->dir);
is($r->{status}, 1, '… 1 when one is broken');
my $longest = List::Util::max(map { utf8::decode($_); length } split /\n/, $r->{out});
cmp_ok($longest, '<=', 100, "… in 100 columns ($longest)");
my $real = readlink($m->dir) // $m->dir;
symlink $m->dir, base_dir() . '/tomount';
is(run($cfs, 'status', base_dir() . '/tomount')->{status}, 1, '… through a symlink');
is(run($cfs, 'status', basename($m->dir), { dir => dirname($m->dir) })->{status}, 1, '… by a relative path');
is(run($cfs, 'status', '.', { dir => $m->dir })->{status}, 1, '… from within');

SKIP: {
	my $script = find_tool('script') or skip 'script is not installed', 3;
	$r = run($script, '-qec', "'$cfs' status '${\$m->dir}'", '/dev/null', { env => { TERM => 'xterm' } });
	like($r->{out}, qr/\e\[/, 'on a terminal: with colour');
	is($r->{status}, 1, '… and the same exit status');
	$r = run($script, '-qec', "'$cfs' status '${\$m->dir}'", '/dev/null', { env => { TERM => 'xterm', NO_COLOR => '1' } });
	unlike($r->{out}, qr/\e\[[0-9;]*m/, 'NO_COLOR is honoured');
}

$r = run($cfs, 'status', '--json', $m->dir);
is($r->{status}, 1, 'status --json: the same exit status');
my $s = eval { JSON::PP->new->utf8->decode($r->{out}) };
ok($s, '… is JSON') or diag $r->{out};
my ($c) = grep { $_->{name} eq 'orders.properties' } @{$s->{connectors}};
is($c->{connector}, 'orders-source', "connectors: name of the file, connector's name");
is_deeply($c->{secrets}, ["file:$S"], '… its secrets');
is($c->{state}, 'ok', '… state');
is($c->{size}, length("name=orders-source\nu=rw\n"), '… size');
is($c->{version}, 0, '… version');
ok(exists $c->{$_}, "… $_") for qw(mtime rotated error errno unknown_providers);
my ($sec_st) = grep { $_->{id} eq $S } @{$s->{secrets}};
is($sec_st->{provider}, 'file', 'secrets: provider');
is($sec_st->{rotation}, 'files', '… rotation by files');
is($sec_st->{users}, 2, '… users');
like($sec_st->{fetched}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/, '… fetched, in RFC 3339');
ok(exists $sec_st->{$_}, "… $_") for qw(state age_ms poll_ms expires next_ms error errno);
ok(exists $s->{$_}, "the status has $_") for qw(version mountpoint source started supervisor worker notifier worker_restarts open_files parked memory connectors_by_state connectors secrets providers);
is($s->{mountpoint}, $m->dir, '… the mount point');
is($s->{source}, $src, '… the source');
cmp_ok($s->{memory}{locked}, '>', 0, '… locked memory') or diag JSON::PP->new->encode($s->{memory});
is_deeply([map { $_->{name} } @{$s->{providers}}], [qw(file directory env)], '… the providers of a directory as SOURCE');
sysopen(my $held, $m->path('orders.properties'), O_RDONLY) or die;
my $open = $m->status->{open_files};
close $held;
eventually(sub { $m->status->{open_files} == $open - 1 }, 3, '… open_files counts open descriptors');

# --watch
my $w = start($cfs, 'status', '--watch', $m->dir);
ok(eventually(sub { () = $w->output =~ /orders\.properties/g; my @n = $w->output =~ /orders\.properties/g; @n >= 2 }, 10), 'status --watch prints again and again');
$w->signal('INT');
ok($w->wait_end(patience(5)), '… until it is interrupted');

# refresh
$r = run($cfs, 'refresh', $m->dir);
is($r->{status}, 0, 'refresh: 0') or diag $r->{err};
is(run($cfs, 'refresh', $m->dir, 'orders')->{status}, 0, 'refresh of one, without its suffix: 0');
is(run($cfs, 'refresh', $m->dir, 'orders.properties', 'idle')->{status}, 0, '… of two');
is(run($cfs, 'refresh', '--leases', $m->dir)->{status}, 0, '… --leases');
$r = run($cfs, 'refresh', $m->dir, 'nobody');
is($r->{status}, 1, '… of one that there is not: 1');
like($r->{err}, qr/nobody/, '… says so');
read_is($m->path('orders.properties'), "name=orders-source\nu=rw\n", 'all goes on');
ok($m->stop, 'ends');
$r = run($cfs, 'status', $m->dir);
is($r->{status}, 2, 'status of what is not mounted: 2');

# Mount options
my $o = mount_fs(source => $src, options => 'ro,rw,defaults,_netdev,nofail,noauto,user,users,nouser,owner,dev,suid,exec,nodev,nosuid,noatime,relatime,async,x-systemd.automount,x-foo=bar,comment=hello',
	args => ['-o', 'mode=0444,settle.ms=30', '-o', 'warm']);
is(sprintf('%04o', $o->stat('orders.properties')->{mode}), '0444', 'options of mount(8) and fstab are accepted; own settings without their prefix');
my ($mount) = $o->mounts;
is($mount->{type}, 'fuse.connectfs', 'type fuse.connectfs');
is($mount->{source}, $src, 'the source is SOURCE');
unlike("$mount->{options},$mount->{super}", qr/(?:^|,)ro(?:,|$)/, 'ro is not passed to the kernel, which would refuse the touch');
like($mount->{options}, qr/\bnosuid\b.*\bnodev\b/, 'nosuid and nodev hold also with suid and dev');
unlike($mount->{options}, qr/\bnoexec\b/, 'exec');
eventually(sub { $o->stat('orders.properties')->{size} > 0 }, 5, 'warm');
my $ow = watch($o->path('orders.properties'));
spew($S, "user=rw2\n");
ok($ow->await('ATTRIB', 5), '… it rotates with -o ro');
ok($o->stop, 'ends');
$o = mount_fs(source => $src, options => 'noexec,fsname=secrets');
($mount) = $o->mounts;
like($mount->{options}, qr/\bnoexec\b/, 'noexec');
is($mount->{source}, 'secrets', 'fsname');
ok($o->stop, 'ends');
for my $bad ('nonsense', 'mode', 'mode=0999', 'kernel_cache', 'max_read=1', 'fd=3', 'rootmode=40000', 'user_id=0', 'blksize=512', 'allow_root', 'mod=0400', '') {
	next if $bad eq '';
	$r = mount_fails(source => $src, options => $bad);
	is($r->{status}, 2, "-o $bad: exit status 2");
	like($r->{err}, qr/\Q${\($bad =~ s,=.*,,r)}\E/, '… names it');
	is(scalar @{$r->{mounts}}, 0, '… nothing mounted');
}
# As mount(8) calls a helper: options at the end
my $mnt = tmp_dir();
my $p = start($cfs, $src, $mnt, '-f', '-o', 'rw,mode=0440');
ok(eventually(sub { (stx("$mnt/orders.properties") // { mode => 0 })->{mode} == 0440 }, 10), 'options after the arguments');
$p->signal('TERM');
$p->wait_end(patience(5));
# A mount point with a space, a comma and a backslash, as SOURCE has
my $odd = tmp_dir("odd, dir \\x");
mkdir "$odd/src";
mkdir "$odd/mnt";
spew("$odd/src/a.properties", "a=1\n");
my $om = mount_fs(source => "$odd/src", mountpoint => "$odd/mnt");
read_is($om->path('a.properties'), "a=1\n", 'paths with spaces, commas and backslashes');
is(run($cfs, 'status', $om->dir)->{status}, 0, '… status finds it');
($mount) = $om->mounts;
is($mount->{source}, "$odd/src", '… the source too');
ok($om->stop, '… ends');
is(scalar(ConnectFS::Guard::mounts_below("$odd/mnt")), 0, '… and is gone');

done_testing;
