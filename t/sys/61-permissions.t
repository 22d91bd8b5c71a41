# Owner, group, mode, allow_other.
use strict;
use warnings;
no warnings "portable"; # capabilities have 64 bits
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
spew("$src/a.properties", "a=1\n");
chmod 0711, base_dir();
my ($other, $stranger) = (65534, 12345);

my $m = mount_fs(source => $src, settings => { 'connectfs.mode' => '0440' });
is(sprintf('%04o', $m->stat('a.properties')->{mode}), '0440', 'connectfs.mode');
is($m->stat('a.properties')->{uid}, $>, 'the owner is the mounting user');
is($m->stat('a.properties')->{gid}, (split ' ', $))[0], '… the group too');
is(sprintf('%04o', stx($m->dir)->{mode}), '0755', 'the root is 0755');
is(sprintf('%04o', stx($m->control($_->[0]))->{mode}), $_->[1], ".connectfs/$_->[0] is $_->[1]") for ['status.json', '0444'], ['metrics', '0444'], ['version', '0444'], ['refresh', '0200'];
is(stx($m->control('refresh'))->{uid}, $>, '.connectfs/refresh belongs to the owner');
my ($mount) = $m->mounts;
like($mount->{super}, qr/\bdefault_permissions\b/, 'default_permissions');
like($mount->{options}, qr/\bnosuid\b.*\bnodev\b/, 'nosuid, nodev');
unlike($mount->{super}, qr/\ballow_other\b/, 'without allow_other');
SKIP: {
	skip 'needs root: another user', 2 unless is_root();
	my $r = run(as_user($other, $other), 'cat', $m->path('a.properties'));
	like($r->{err}, qr/Permission denied/, 'another user is refused');
	$r = run(as_user($other, $other), 'ls', $m->dir);
	like($r->{err}, qr/Permission denied/, '… already at the root');
}
ok($m->stop, 'ends');

# Modes that are none
for my $mode ('0600', '0755', '0040', '999', 'rw', '4400', '') {
	my $r = mount_fails(source => $src, settings => { 'connectfs.mode' => $mode });
	is($r->{status}, 2, "connectfs.mode=$mode: exit status 2");
	like($r->{err}, qr/connectfs\.mode/, '… names the key');
	is(scalar @{$r->{mounts}}, 0, '… nothing mounted');
}
for my $s (['connectfs.owner', 'no-such-user-x'], ['connectfs.group', 'no-such-group-x'], ['connectfs.owner', '-1']) {
	my $r = mount_fails(source => $src, settings => { @$s });
	is($r->{status}, 2, "$s->[0]=$s->[1]: exit status 2");
	like($r->{err}, qr/\Q$s->[0]\E/, '… names the key');
}

if (!is_root()) {
	my $r = mount_fails(source => $src, settings => { 'connectfs.owner' => 0 });
	is($r->{status}, 2, "an ordinary user can't give the files to another");
	like($r->{err}, qr/owner/, '… says so');
	is(scalar @{$r->{mounts}}, 0, '… nothing mounted');
	my $m = mount_fs(source => $src, settings => { 'connectfs.owner' => $> });
	is($m->stat('a.properties')->{uid}, $>, '… but to itself');
	ok($m->stop, 'ends');
	SKIP: {
		skip 'user_allow_other is set here', 3 if grep { /^\s*user_allow_other/ } split /\n/, eval { slurp('/etc/fuse.conf') } // '';
		my $r = mount_fails(source => $src, options => 'allow_other');
		is($r->{status}, 2, 'allow_other without user_allow_other: exit status 2');
		like($r->{err}, qr/user_allow_other.*\/etc\/fuse\.conf|\/etc\/fuse\.conf.*user_allow_other/s, '… and what to do');
		is(scalar @{$r->{mounts}}, 0, '… nothing mounted');
	}
	done_testing;
	exit;
}

my $r = mount_fails(source => $src, settings => { 'connectfs.owner' => 'nobody' });
is($r->{status}, 2, 'another owner needs allow_other');
like($r->{err}, qr/allow_other/, '… says so');
is(scalar @{$r->{mounts}}, 0, '… nothing mounted');

sub reads { my ($m, $what, $want, @prefix) = @_;
	my $r = run(@prefix, 'cat', $m->path('a.properties'));
	is($r->{out}, $want ? "a=1\n" : '', $what);
	like($r->{err}, qr/Permission denied/, '… Permission denied') unless $want;
	return $r;
}
my $o = mount_fs(source => $src, options => 'allow_other,owner=nobody,group=12346,mode=0440');
my $st = $o->stat('a.properties');
is("$st->{uid}:$st->{gid}", "$other:12346", 'owner and group by -o');
my $root = stx($o->dir);
is("$root->{uid}:$root->{gid}", "$other:12346", '… of the root as well');
reads($o, 'the owner reads', 1, as_user($other, $other));
reads($o, 'the group reads', 1, as_user($stranger, 12346));
reads($o, 'another group as supplementary group reads', 1, find_tool('setpriv'), "--reuid=$stranger", "--regid=$stranger", '--groups=12346');
reads($o, 'another user is refused', 0, as_user($stranger, $stranger));
reads($o, 'root reads', 1);
$r = run(as_user($stranger, $stranger), 'ls', $o->dir);
like($r->{out}, qr/a\.properties/, 'another user may list');
$r = run(as_user($stranger, $stranger), 'cat', $o->control('status.json'));
like($r->{out}, qr/^\{/, '… and read the status');
$r = run(as_user($stranger, $stranger), 'sh', '-c', 'echo "*" >"$1"', 'sh', $o->control('refresh'));
like($r->{err}, qr/Permission denied/, '… but not have secrets fetched');
$r = run(as_user($other, $other), 'sh', '-c', 'echo "*" >"$1"', 'sh', $o->control('refresh'));
is($r->{status}, 0, 'the owner may') or diag $r->{err};
my ($om) = $o->mounts;
like($om->{super}, qr/\ballow_other\b/, 'allow_other is passed on');
ok($o->stop, 'ends');

# connectfs.run.user: the worker has no privilege, and can't read what that user can't
my $sec = tmp_dir();
spew("$sec/open.properties", "k=1\n");
spew("$sec/closed.properties", "k=1\n");
chmod 0600, "$sec/closed.properties";
spew("$src/open.properties", "k=\${file:$sec/open.properties:k}\n");
spew("$src/closed.properties", "k=\${file:$sec/closed.properties:k}\n");
my $p = mount_fs(source => $src, settings => { 'connectfs.run.user' => 'nobody', 'connectfs.run.group' => 'nogroup' });
my %status = map { /^(\w+):\s*(.*)$/ ? ($1, $2) : () } split /\n/, slurp('/proc/' . $p->pid('worker') . '/status');
is($status{Uid}, join("\t", ($other) x 4), 'connectfs.run.user: the worker runs as that user');
is($status{Gid}, join("\t", (65534) x 4), '… and that group');
like($status{Groups} // '', qr/^\s*(?:65534)?\s*$/, '… with no other group');
like($status{$_}, qr/^0+$/, "… $_ is empty") for qw(CapInh CapAmb);
# What root may lock here: a container may have taken it away
my ($may) = slurp('/proc/self/status') =~ /^CapPrm:\s*(\w+)$/m;
my $lock = hex($may) & 1 << 14;
is(hex $status{$_}, $lock, "… $_ is the capability to lock memory") for qw(CapPrm CapEff);
read_is($p->path('open.properties'), "k=1\n", '… reads what it may');
is_errno(($p->cat('closed.properties'))[1], 'EKEYREJECTED', "… and not what it mayn't");
my $w = watch($p->path('open.properties'));
spew("$sec/open.properties", "k=2\n");
ok($w->await('ATTRIB', 5), '… rotates');
read_is($p->path('open.properties'), "k=2\n", '… and is read');

# Root's worker without connectfs.run.user
my $q = mount_fs(source => $src);
read_is($q->path('closed.properties'), "k=1\n", "without it root's worker reads root's files");

done_testing;
