# A key is removed and put back (done-when 4 of the issue); so is the file, and so is its form.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/db.properties";
my $whole = "user=rw\npassword=pw1\nhost=h\n";
spew($S, $whole);
spew("$src/orders.properties", "name=orders\nconnection.user=\${file:$S:user}\nconnection.password=\${file:$S:password}\n");
spew("$src/other.properties", "name=other\nu=\${file:$S:user}\n");
my $want = "name=orders\nconnection.user=rw\nconnection.password=pw1\n";
my $m = mount_fs(source => $src);
my $f = $m->path('orders.properties');
read_is($f, $want, 'well at first');
read_is($m->path('other.properties'), "name=other\nu=rw\n", '… the other too');
my $mtime = stx($f)->{mtime_ns};
my $version = $m->attr('orders.properties', 'version');
my $w = watch($f);

my $mark = $m->log_mark;
spew($S, "user=rw\nhost=h\n");
my $r = run('cat', $f);
like($r->{err}, qr/Required key not available/, 'a key is removed: cat says "Required key not available"');
is($r->{out}, '', '… and nothing else');
SKIP: {
	my $getfattr = find_tool('getfattr') or skip 'getfattr is not installed', 2;
	$r = run($getfattr, '--absolute-names', '-d', $f);
	like($r->{out}, qr/user\.connectfs\.error=".*password.*\Q$S\E|user\.connectfs\.error=".*\Q$S\E.*password/, '… getfattr says which key of which path');
	like($r->{out}, qr/user\.connectfs\.state="failed"/, '… and the state');
}
$r = run(program(), 'status', $m->dir);
is($r->{status}, 1, '… status: exit status 1');
like($r->{out}, qr/orders\.properties.*failed/, '… and shows it');
is($m->connector('orders.properties')->{state}, 'failed', '… in JSON too');
my @events = $w->drain(0.3);
is(ConnectFS::Watcher::text($f, @events), 'ATTRIB', 'becoming broken is no rotation: one IN_ATTRIB');
is(stx($f)->{mtime_ns}, $mtime, '… mtime stays');
my @lines = $m->log_since($mark, qr/orders/);
is(scalar @lines, 1, '… one line in the log') or diag join "\n", @lines;
read_is($m->path('other.properties'), "name=other\nu=rw\n", 'the other one, which has what it needs, is well');
is((stx($m->path('other.properties')))->{mtime_ns}, stx("$src/other.properties")->{mtime_ns}, '… and did not rotate');

$mark = $m->log_mark;
spew($S, $whole);
eventually(sub { $m->attr('orders.properties', 'state') eq 'ok' }, 2, 'the key is put back: healed without being read');
read_is($f, $want, '… and read');
@events = $w->drain(0.3);
is(ConnectFS::Watcher::text($f, @events), 'ATTRIB', 'coming back with the same bytes is no rotation: one IN_ATTRIB');
is(stx($f)->{mtime_ns}, $mtime, '… mtime stays');
is($m->attr('orders.properties', 'version'), $version, '… the version too');
is($m->attr('orders.properties', 'error'), undef, '… no .error any more');
@lines = $m->log_since($mark, qr/orders/);
is(scalar @lines, 1, '… one line in the log') or diag join "\n", @lines;
is(run(program(), 'status', $m->dir)->{status}, 0, 'status: exit status 0');

# Back with another value: a rotation
spew($S, "user=rw\n");
eventually(sub { $m->attr('orders.properties', 'state') eq 'failed' }, 2, 'broken again');
$w->drain(0.2);
spew($S, "user=rw\npassword=pw2\n");
eventually(sub { $m->attr('orders.properties', 'state') eq 'ok' }, 2, 'back with another value');
@events = $w->drain(0.3);
is(ConnectFS::Watcher::text($f, @events), 'MODIFY ATTRIB', '… that is a rotation');
cmp_ok(stx($f)->{mtime_ns}, '>', $mtime, '… with a new mtime');
read_is($f, "name=orders\nconnection.user=rw\nconnection.password=pw2\n", '… and the value');

# The file goes and comes
unlink $S;
is_errno(($m->cat('orders.properties'))[1], 'ENOKEY', 'the secret file is removed: ENOKEY');
is_errno(($m->cat('other.properties'))[1], 'ENOKEY', '… for all that need it');
spew($S, $whole);
eventually(sub { $m->attr($_, 'state') eq 'ok' }, 2, "$_: put back, healed") for qw(orders.properties other.properties);
read_is($f, $want, '… and read');

# Its directory goes and comes
rename $sec, "$sec.away";
is_errno(($m->cat('orders.properties'))[1], 'ENOKEY', 'its directory is moved away: ENOKEY');
rename "$sec.away", $sec;
eventually(sub { $m->attr('orders.properties', 'state') eq 'ok' }, 3, '… and moved back: healed');
read_is($f, $want, '… and read');

# A file that fails to parse keeps the last good values and says so
$mark = $m->log_mark;
$mtime = stx($f)->{mtime_ns};
$w->drain(0.2);
spew($S, "user=other\npassword=\\u12\n");
read_is($f, $want, 'malformed: the last good values are served');
eventually(sub { $m->attr('orders.properties', 'state') eq 'stale' }, 2, '… as stale');
like($m->attr('orders.properties', 'error') // '', qr/\Q$S\E/, '… and .error says why');
is(ConnectFS::Watcher::text($f, $w->drain(0.3)), 'ATTRIB', '… one IN_ATTRIB');
is(stx($f)->{mtime_ns}, $mtime, '… mtime stays');
is(run(program(), 'status', $m->dir)->{status}, 1, '… status: exit status 1');
$r = run('cat', $f) for 1 .. 3;
@lines = $m->log_since($mark, qr/orders/);
is(scalar @lines, 1, '… one line in the log') or diag join "\n", @lines;
spew($S, "user=rw\npassword=pw3\n");
eventually(sub { $m->attr('orders.properties', 'state') eq 'ok' }, 2, 'mended: ok');
read_is($f, "name=orders\nconnection.user=rw\nconnection.password=pw3\n", '… with the new value');

done_testing;
