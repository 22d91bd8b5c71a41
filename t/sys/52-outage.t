# Outages, freshness, polling, leases.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

my %p = map { ("config.providers.$_.class" => 'slow') } qw(f p t o l);
my $s = slow_setup({
	'fresh.properties' => "a=\${f:fresh:k}\n", 'poll.properties' => "a=\${p:poll:k}\n", 'ttl.properties' => "a=\${t:ttl:k}\n",
	'out.properties' => "a=\${o:out:k}\n", 'hang.properties' => "a=\${o:hang:k}\n", 'gone.properties' => "a=\${o:gone:k}\n", 'login.properties' => "a=\${o:login:k}\n",
	'lease.properties' => "a=\${l:lease:k}\n", 'pollgone.properties' => "a=\${p:pollgone:k}\n", 'const.properties' => "a=\${f:const:k}\n",
	map({ ("many$_.properties" => "n=$_\na=\${p:many:k}\n") } 1 .. 30),
}, %p, 'config.providers' => 'f,p,t,o,l', 'connectfs.wait.ms' => 1500,
	'config.providers.f.param.fresh.ms' => 400, 'config.providers.f.param.poll.ms' => 3600000,
	'config.providers.p.param.poll.ms' => 200,
	'config.providers.o.param.fresh.ms' => 100, 'config.providers.o.param.poll.ms' => 3600000, 'config.providers.o.param.stale.ms' => 6000,
	'config.providers.l.param.fresh.ms' => 0, 'config.providers.l.param.poll.ms' => 100);
my $text = slurp($s->{settings});
$text .= "config.providers.$_.param.control=$s->{control}\n" for qw(f p t o l);
spew($s->{settings}, $text);
slow_set($s, $_, "k=$_-1") for qw(fresh poll out hang gone login many pollgone);
slow_set($s, 'const', 'k=const', 'constant=1');
slow_set($s, 'ttl', 'k=ttl-1', 'ttl=300');
slow_set($s, 'lease', 'k=lease-1', 'lease=2500');
my $m = mount_fs(slow => 1, source => $s->{settings});

# Freshness
read_is($m->path('fresh.properties'), "a=fresh-1\n", 'read');
slow_set($s, 'fresh', 'k=fresh-2');
eventually(sub { slurp($m->path('fresh.properties')) eq "a=fresh-2\n" }, 5);
slow_set($s, 'fresh', 'k=fresh-3');
sleep 0.5;
read_is($m->path('fresh.properties'), "a=fresh-3\n", 'fresh.ms: an open returns nothing fetched longer ago');
my $n = slow_fetches($s, 'fresh');
my $t0 = time;
$m->cat('fresh.properties') for 1 .. 20;
cmp_ok(slow_fetches($s, 'fresh') - $n, '<=', 1 + (time - $t0) / 0.4, '… and what is fresh is not fetched again');

# Constant
read_is($m->path('const.properties'), "a=const\n", 'a constant');
sleep 0.5;
$m->cat('const.properties');
is(slow_fetches($s, 'const'), 1, '… is fetched once');

# Polling: seen without an open; one fetch for all who use it
read_is($m->path("many$_.properties"), "n=$_\na=many-1\n", "many $_") for 1 .. 30;
my $f = $m->path('poll.properties');
read_is($f, "a=poll-1\n", 'polled');
my $w = watch($f, $m->dir);
slow_set($s, 'poll', 'k=poll-2');
slow_set($s, 'many', 'k=many-2');
ok($w->await('ATTRIB', 5, 'poll.properties'), 'poll.ms: a change is announced without an open');
is(ConnectFS::Watcher::text($f, $w->drain(0.4)), 'MODIFY ATTRIB', '… once');
read_is($f, "a=poll-2\n", '… and read');
read_is($m->path("many$_.properties"), "n=$_\na=many-2\n", "many $_ again") for 1, 30;
my $at = slow_fetches($s, 'many');
$t0 = time;
sleep 1.5;
my $polls = slow_fetches($s, 'many') - $at;
cmp_ok($polls, '>=', 3, "… $polls fetches in 1.5 s with poll.ms=200");
cmp_ok($polls, '<=', (time - $t0) / 0.1 + 2, '… for 30 connectors no more than for one');

# Ten polls that change nothing cause nothing
$w->clear;
my $mtime = stx($f)->{mtime_ns};
sleep 0.8;
is(join(' ', map { "$_->{event}:$_->{name}" } grep { ($_->{name} || $_->{path}) =~ /poll\./ } $w->drain(0.1)), '', 'unchanged values cause no event');
is(stx($f)->{mtime_ns}, $mtime, '… and no mtime');

# TTL: when to read again
read_is($m->path('ttl.properties'), "a=ttl-1\n", 'with a TTL');
my $tw = watch($m->path('ttl.properties'));
slow_set($s, 'ttl', 'k=ttl-2', 'ttl=300');
ok($tw->await('MODIFY', 5), 'a TTL says when to read again');
read_is($m->path('ttl.properties'), "a=ttl-2\n", '… and it is');
slow_set($s, 'ttl', 'error=ETIMEDOUT', 'outage=1');
sleep 0.8;
read_is($m->path('ttl.properties'), "a=ttl-2\n", '… its end does not end the values');

# The secret is gone while it is polled
read_is($m->path('pollgone.properties'), "a=pollgone-1\n", 'one more');
my $gw = watch($m->path('pollgone.properties'));
slow_set($s, 'pollgone', 'error=EKEYREVOKED');
ok($gw->await('ATTRIB', 5), 'revoked: told without an open');
is(ConnectFS::Watcher::text($m->path('pollgone.properties'), $gw->drain(0.3)), 'ATTRIB', '… by IN_ATTRIB alone');
is_errno(($m->cat('pollgone.properties'))[1], 'EKEYREVOKED', '… EKEYREVOKED');
slow_set($s, 'pollgone', 'k=pollgone-2');
ok($gw->await('MODIFY', 15), '… and it comes back without an open');

# Outage: the last known values, at once
my $of = $m->path('out.properties');
read_is($of, "a=out-1\n", 'read');
my $t_known = time;
my $ow = watch($of);
slow_set($s, 'out', 'error=ECONNREFUSED', 'outage=1', 'text=connection refused');
sleep 0.15;
read_is($of, "a=out-1\n", 'the store does not answer: the last known value is served');
is($m->attr('out.properties', 'state'), 'stale', '… stale');
like($m->attr('out.properties', 'error'), qr/connection refused/, '… with the reason');
is(ConnectFS::Watcher::text($of, $ow->drain(0.3)), 'ATTRIB', '… one IN_ATTRIB');
$t0 = time;
read_is($of, "a=out-1\n", '… again') for 1 .. 10;
cmp_ok(time - $t0, '<', 1, '… at once');
cmp_ok(slow_fetches($s, 'out'), '<=', 4, '… with back-off');
is(scalar $m->log_lines(qr/\bout\b.*connection refused/), 1, '… one line in the log') or diag $m->log;

# A store that hangs makes the first wait, the others not
my $hf = $m->path('hang.properties');
read_is($hf, "a=hang-1\n", 'read');
slow_set($s, 'hang', 'hang=1');
sleep 0.15;
read_is($hf, "a=hang-1\n", 'it hangs: the last known value');
$t0 = time;
read_is($hf, "a=hang-1\n", '… again') for 1 .. 5;
cmp_ok(time - $t0, '<', 1, '… then at once');

# Our own login failing is an outage; what the store says of the secret is not
read_is($m->path('gone.properties'), "a=gone-1\n", 'read');
read_is($m->path('login.properties'), "a=login-1\n", 'read');
slow_set($s, 'gone', 'error=ENOKEY', 'text=there is no such secret any more');
slow_set($s, 'login', 'error=EKEYREJECTED', 'outage=1', 'text=login failed');
sleep 0.15;
is_errno(($m->cat('gone.properties'))[1], 'ENOKEY', 'gone: not served any more');
read_is($m->path('login.properties'), "a=login-1\n", 'our own login fails: served');

# Back
slow_set($s, 'out', 'k=out-1');
eventually(sub { $m->cat('out.properties'); $m->attr('out.properties', 'state') eq 'ok' }, 8, 'the store is back: ok');
is(ConnectFS::Watcher::text($of, $ow->drain(0.3)), 'ATTRIB', '… one IN_ATTRIB, since the bytes are the same');
slow_set($s, 'out', 'k=out-2');
sleep 0.15;
read_is($of, "a=out-2\n", '… and new values are seen');

# stale.ms
slow_set($s, 'out', 'error=ECONNREFUSED', 'outage=1');
$t0 = time;
sleep 0.15;
read_is($of, "a=out-2\n", 'out again: served');
my $ended = eventually(sub { !defined(($m->cat('out.properties'))[0]) }, 15, 'after stale.ms (6 s) no more');
cmp_ok(time - $t0, '>=', 4.5, '… not before');
is_errno(($m->cat('out.properties'))[1], 'ECONNREFUSED', '… ECONNREFUSED');

# Leases: not read again to look, not served after their end
$n = slow_fetches($s, 'lease');
read_is($m->path('lease.properties'), "a=lease-1\n", 'leased');
$t0 = time;
read_is($m->path('lease.properties'), "a=lease-1\n", '… again') for 1 .. 3;
is(slow_fetches($s, 'lease') - $n, 1, '… not fetched again to look');
ok(defined $m->attr('lease.properties', 'expires'), '… .expires');
slow_set($s, 'lease', 'error=ETIMEDOUT', 'outage=1');
my $errno;
eventually(sub { (undef, $errno) = $m->cat('lease.properties'); defined $errno }, 8, 'the lease ends in an outage: not served');
is_errno($errno, 'EKEYEXPIRED', '… EKEYEXPIRED');
slow_set($s, 'lease', 'k=lease-2', 'lease=60000');
eventually(sub { (($m->cat('lease.properties'))[0] // '') eq "a=lease-2\n" }, 10, 'a new one heals it');

done_testing;
