# Vault: secrets of KV 1 and 2, what each answer comes to, outages, redirects; and nothing of it leaks. Against a fake.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;
use ConnectFS::FakeVault;

need_fuse();
my $v = ConnectFS::FakeVault->start or plan skip_all => $ConnectFS::FakeVault::WHY;
my $foreign = ConnectFS::FakeVault->start;
$_->ctl([token => 'root', {}]) for $v, $foreign;
my $HOUR = 3600;
my $time = sub { my @t = gmtime $_[0]; return sprintf '%04d-%02d-%02dT%02d:%02d:%02d.000000001Z', $t[5] + 1900, $t[4] + 1, @t[3, 2, 1, 0] };

# Codes whose answers say that the server as a whole is out, or may be another's word for it, each with a secret of its own
my %status = (400 => ['EIO'], 405 => ['EIO'], 412 => ['EIO'], 413 => ['EIO'], 429 => ['EIO'], 472 => ['EIO'], 473 => ['EIO'], 474 => ['EIO'],
	500 => ['EIO'], 501 => ['EIO'], 502 => ['EIO'], 503 => ['EIO'], 530 => ['EIO']);
my %stored = (
	'flat.properties' => "user=\${vault:secret/db:user}\npw=\${vault:secret/db:password}\n",
	'pasted.properties' => "user=\${vault:secret/data/db:user}\n",
	'version.properties' => "old=\${vault:secret/db?version=1:user}\nnew=\${vault:secret/db?version=2:user}\n",
	'noversion.properties' => "a=\${vault:secret/db?version=9:user}\n",
	'one.properties' => "a=\${vault:kv1/app/x:key}\n",
	'slashes.properties' => "a=\${vault:team/a/kv/x:key}\n",
	'nested.properties' => "a=\${vault:secret/nested:tls.key}\nb=\${vault:secret/nested:flat.key}\nc=\${vault:secret/nested:obj}\n"
		. "d=\${vault:secret/nested:number}\ne=\${vault:secret/nested:yes}\nf=\${vault:secret/nested:hosts.1}\n",
	'nokey.properties' => "a=\${vault:secret/db:nothing}\n",
	'null.properties' => "a=\${vault:secret/nested:null}\n",
	'none.properties' => "a=\${vault:secret/none:user}\n",
	'deleted.properties' => "a=\${vault:secret/deleted:k}\n",
	'destroyed.properties' => "a=\${vault:secret/destroyed:k}\n",
	'future.properties' => "a=\${vault:secret/future:k}\n",
	'before.properties' => "a=\${vault:secret/deleted?version=1:k}\n",
	'denied.properties' => "a=\${vault:secret/denied:k}\n",
	'kip.properties' => "a=\${kip:user}\n",
	'told.properties' => "a=\${told:secret/db:user}\n",
	'space.properties' => "a=\${ns:secret/ns:k}\n",
	'poll.properties' => "a=\${vault:secret/poll:k}\n",
	'again.properties' => "a=\${vault:secret/again:k}\n",
	'short.properties' => "a=\${short:secret/short:k}\n",
	'around.properties' => "a=\${vault:secret/around:k}\n",
	'away.properties' => "a=\${vault:secret/away:k}\n",
	'moved.properties' => "a=\${two:secret/moved:k}\n",
	map({ ("s$_.properties" => "a=\${vault:secret/s$_:k}\n") } keys %status, qw(html cut drop big hang type deep)),
	map({ ("many$_.properties" => "n=$_\na=\${vault:secret/many:k}\n") } 1 .. 30),
);
$v->ctl(
	[mount => 'team/a/kv/', { type => 'kv', version => 1 }], [kv1 => 'team/a/kv/x', { key => 'deep mount' }],
	[kv2 => 'secret/db', { user => 'first', password => 'pw 1' }], [kv2 => 'secret/db', { user => 'ann', password => 'pw 2' }],
	[kv1 => 'kv1/app/x', { key => 'of one' }],
	[kv2 => 'secret/nested', { tls => { key => 'inner' }, 'flat.key' => 'flat', flat => { key => 'not this' }, obj => { b => [1, 2] }, number => 42, yes => JSON::PP::true,
		hosts => ['h0', 'h1'], null => undef }],
	(map { [kv2 => "secret/$_", { k => "$_-1" }] } qw(deleted destroyed future denied ns poll again short around away moved many), map { "s$_" } keys %status, qw(html cut drop big hang type deep)),
	[kv2 => 'secret/deleted', { k => 'deleted-2' }], [version => 'secret/deleted', 2, { deletion_time => $time->(time - 60) }],
	[version => 'secret/destroyed', 1, { destroyed => 1 }], [version => 'secret/future', 1, { deletion_time => $time->(time + 2 * $HOUR) }],
	[token => 'blind', { deny => ['^sys/internal'] }], [deny => 'root', '^secret/(?:data/)?denied'],
	map({ [token => $_, {}] } qw(ns short two)),
);
my $d = tmp_dir();
spew("$d/$_", "$_\n") for qw(blind ns short two);
my $s = $v->setup(\%stored, providers => {
	kip => { path => 'secret/db' }, told => { token => "$d/blind", mounts => 'secret=2' }, ns => { token => "$d/ns", namespace => 'team/blue' },
	short => { token => "$d/short", 'stale.ms' => 2500 },
	two => { token => "$d/two", address => $foreign->url . ',' . $v->url },
});
my $m = mount_fs(source => $s->{settings});
sub why { return $m->attr($_[0], 'error') // '' }
sub fails { my ($name, $errno, $pattern, $what) = @_; is_errno(($m->cat($name))[1], $errno, $what); like(why($name), $pattern, '… and why') }

# Reading
read_is($m->path('flat.properties'), "user=ann\npw=pw 2\n", 'KV 2');
read_is($m->path('pasted.properties'), "user=ann\n", 'a path with data/ in it');
read_is($m->path('version.properties'), "old=first\nnew=ann\n", '?version=');
read_is($m->path('one.properties'), "a=of one\n", 'KV 1');
read_is($m->path('slashes.properties'), "a=deep mount\n", 'a mount with slashes');
read_is($m->path('nested.properties'), qq(a=inner\nb=flat\nc={"b":[1,2]}\nd=42\ne=true\nf=h1\n), 'dots, objects, numbers');
read_is($m->path('kip.properties'), "a=ann\n", 'a reference without a path');
read_is($m->path('told.properties'), "a=ann\n", 'settings tell the mounts');
is($v->count(qr{ui/mounts}) - scalar(grep { $_->{path} =~ /ui.mounts/ && $_->{token} ne 'blind' } $v->log), 0, '… and nobody asks for them');
read_is($m->path('space.properties'), "a=ns-1\n", 'a namespace');
is_deeply([sort keys %{{ map { $_->{namespace} => 1 } grep { $_->{token} eq 'ns' && $_->{path} !~ m{sys/health} } $v->log }}], ['team/blue'], '… its header') or
	diag join "\n", map { "$_->{path}: $_->{namespace}" } grep { $_->{token} eq 'ns' } $v->log;
is(scalar(grep { $_->{vault_request} ne 'true' && $_->{path} !~ m{sys/health} } $v->log), 0, 'X-Vault-Request is always sent');
is(scalar(grep { $_->{expect} ne '' } $v->log), 0, 'Expect never');

# Mounts are asked for once, not for each secret
cmp_ok($v->count(qr{ui/mounts/secret}), '<=', 40, 'mount discovery');

# States
fails('nokey.properties', 'ENOKEY', qr/nothing/, 'no such key');
fails('null.properties', 'ENOKEY', qr/null/, 'null is no value');
fails('none.properties', 'ENOKEY', qr{secret/none}, 'no such secret');
fails('noversion.properties', 'ENOKEY', qr{secret/db}, 'no such version');
fails('deleted.properties', 'EKEYREVOKED', qr/deleted/, 'deleted');
fails('destroyed.properties', 'EKEYREVOKED', qr/destroyed/, 'destroyed');
read_is($m->path('future.properties'), "a=future-1\n", 'to be deleted in the future');
read_is($m->path('before.properties'), "a=deleted-1\n", 'an older version of a deleted one');
my $looks = $v->count(qr{lookup-self});
fails('denied.properties', 'EKEYREJECTED', qr/403|permission|denied/i, 'no right');
cmp_ok($v->count(qr{lookup-self}) - $looks, '<=', 1, '… with one question about the token at most');
$v->ctl([deny => 'root']);
eventually(sub { ($m->cat('denied.properties'))[0] }, 10, '… the right is given: it heals');

# One request, however many use it
my $mark = $v->mark;
read_is($m->path("many$_.properties"), "n=$_\na=many-1\n", "many $_") for 1 .. 30;
cmp_ok($v->count('GET /v1/secret/data/many', $mark), '<=', 3, 'one secret of 30 connectors is asked for once in a while');

# Polling
read_is($m->path('poll.properties'), "a=poll-1\n", 'polled');
my $w = watch($m->path('poll.properties'));
$v->ctl([kv2 => 'secret/poll', { k => 'poll-2' }]);
ok($w->await('MODIFY', 10), '… a new version is told without an open');
read_is($m->path('poll.properties'), "a=poll-2\n", '… and read');
$v->ctl([version => 'secret/poll', 2, { deletion_time => $time->(time - 60) }]);
eventually(sub { ($m->attr('poll.properties', 'state') // '') eq 'failed' }, 10, '… its deletion too');
$v->ctl([version => 'secret/poll', 2, { deletion_time => '' }]);
eventually(sub { (($m->cat('poll.properties'))[0] // '') eq "a=poll-2\n" }, 20, '… and that it is undeleted');

# Every status, of a secret that was never read: an errno and a sentence, and then it heals
for my $code (sort keys %status) {
	$v->ctl([answer => "GET /v1/secret/(?:data/)?s$code\$", { status => $code, errors => ["the words of $code"] }]);
	fails("s$code.properties", $status{$code}, qr/\b$code\b/, "status $code");
	$v->ctl(['answers_off']);
	eventually(sub { (($m->cat("s$code.properties"))[0] // '') eq "a=s$code-1\n" }, 15, '… healed');
}
my %bad = (
	html => [{ status => 200, body => '<!DOCTYPE html><html><body>Sign in</body></html>', headers => { 'Content-Type' => 'text/html' } }, 'EPROTO', qr/HTML/],
	cut => [{ status => 200, body => '{"data":{"data":{"k":"half"}}}', cut => 20 }, 'EPROTO', qr/./],
	drop => [{ drop => 1 }, 'EPROTO', qr{without an answer|broke off|closed}],
	big => [{ status => 200, big => 5_000_000 }, 'EPROTO', qr/./],
	hang => [{ hang => 1 }, 'ETIMEDOUT', qr/./],
	type => [{ status => 200, body => '{"data":["no","object"]}' }, 'EPROTO', qr/./],
	deep => [{ status => 200, body => '{"data":' . '[' x 5000 . ']' x 5000 . '}' }, 'EPROTO', qr/./],
);
for my $what (sort keys %bad) {
	my ($order, $errno, $pattern) = @{$bad{$what}};
	$v->ctl([answer => "GET /v1/secret/(?:data/)?s$what\$", $order]);
	fails("s$what.properties", $errno, $pattern, "an answer: $what");
	$v->ctl(['answers_off']);
	eventually(sub { (($m->cat("s$what.properties"))[0] // '') eq "a=s$what-1\n" }, 20, '… healed');
}
# "Not now" once: nobody notices
$v->ctl(map { [answer => 'GET /v1/secret/data/again', { status => $_, times => 1, errors => ['not now'], headers => $_ == 429 ? { 'Retry-After' => 1 } : {} }] } 429);
read_is($m->path('again.properties'), "a=again-1\n", 'tried again after Retry-After');

# Redirects: to itself, to a foreign host, to another of the addresses
$v->ctl([answer => 'GET /v1/secret/data/around', { status => 307, headers => { Location => $v->url . '/v1/secret/data/around' } }]);
$mark = $v->mark;
fails('around.properties', 'EPROTO', qr/redirect|307/i, 'a redirect to itself');
cmp_ok($v->count('GET /v1/secret/data/around', $mark), '<=', 6, '… is not followed for ever');
$v->ctl([answer => 'GET /v1/secret/data/away', { status => 307, headers => { Location => $foreign->url . '/v1/secret/data/away' } }]);
$mark = $foreign->mark;
fails('away.properties', 'EPROTO', qr/\b$foreign->{port}\b/, 'a redirect to a foreign host: its name is told');
is($foreign->count(qr/away/, $mark), 0, '… it is not followed');
$foreign->ctl([token => 'two', {}], [kv2 => 'secret/moved', { k => 'of the standby' }],
	[answer => 'GET /v1/secret/data/moved', { status => 307, headers => { Location => $v->url . '/v1/secret/data/moved' } }]);
read_is($m->path('moved.properties'), "a=moved-1\n", 'a redirect to another of the addresses is followed');
is((grep { $_->{path} =~ m{data/moved} } $v->log)[-1]{token}, 'two', '… with the token');
$v->ctl(['answers_off']);
eventually(sub { ($m->cat('away.properties'))[0] && ($m->cat('around.properties'))[0] }, 20, 'both heal');

# Outage
read_is($m->path('flat.properties'), "user=ann\npw=pw 2\n", 'all is well');
read_is($m->path('short.properties'), "a=short-1\n", '… here too');
my $tree = $m->path('flat.properties');
my $mtime = stx($tree)->{mtime_ns};
$v->ctl(['down']);
sleep 0.3;
for (1 .. 20) { read_is($tree, "user=ann\npw=pw 2\n", 'connections are refused: the last known values'); sleep 0.05 }
eventually(sub { $m->attr('flat.properties', 'state') eq 'stale' }, 10, '… stale');
like(why('flat.properties'), qr/refused|connect/i, '… with the reason');
my ($p) = grep { $_->{name} eq 'vault' } @{$m->status->{providers}};
ok(defined $p->{error} && defined $p->{error_since}, '… status: since when') or diag explain $p;
my $up = $m->metric(qr/connectfs_provider_up\{[^}]*provider="vault"[^}]*\}/);
is($up, 0, '… and the metrics');
eventually(sub { !defined(($m->cat('short.properties'))[0]) }, 20, 'after stale.ms no more');
is_errno(($m->cat('short.properties'))[1], ['ECONNREFUSED', 'ETIMEDOUT'], '… ECONNREFUSED');
$v->ctl([kv2 => 'secret/db', { user => 'eve', password => 'pw 3' }]);
$mark = $v->mark;
$v->ctl(['up']);
eventually(sub { (($m->cat('flat.properties'))[0] // '') eq "user=eve\npw=pw 3\n" }, 35, 'back: healed and fresh') or diag why('flat.properties');
eventually(sub { ($m->cat('short.properties'))[0] }, 35, '… all of it');
eventually(sub { !grep { $m->attr("many$_.properties", 'state') ne 'ok' } 1 .. 30 }, 35, '… without an open too');
my %asked;
$asked{$_->{path}}++ for splice @{[$v->log]}, $mark;
cmp_ok($asked{'/v1/secret/data/many'} // 0, '<=', 200, 'no burst of one secret');
cmp_ok(scalar(grep { $_->{path} =~ /health/ } splice @{[$v->log]}, $mark), '<=', 20, '… nor of probes');
cmp_ok(stx($tree)->{mtime_ns}, '>', $mtime, 'the new bytes are a rotation');
my $log = $m->log;
cmp_ok(scalar(grep { /refused/i } split /\n/, $log), '<', 200, 'the log has a line a change, not one an attempt');

# Out as a whole: one probe at a time, and not an attempt a secret
my $known = () = grep { $_->{state} eq 'ok' } @{$m->status->{secrets}};
cmp_ok($known, '>', 20, "$known secrets are known");
$v->ctl([answer => '.', { status => 503, errors => ['Vault is sealed'] }]);
eventually(sub { ($m->attr('one.properties', 'state') // '') eq 'stale' }, 15, 'sealed: stale');
$mark = $v->mark;
my ($unread, $seconds) = (0, time);
while (time - $seconds < 3) { for (qw(flat one many1 many2)) { $unread++ unless defined(($m->cat("$_.properties"))[0]) } sleep 0.1 }
$seconds = time - $seconds;
is($unread, 0, '… all is served');
my $asked = $v->mark - $mark;
cmp_ok($asked, '<=', 12 * 5 + 6 * 2 * $seconds, sprintf('… %d requests in %.0f s, by 6 providers that would have asked %d times', $asked, $seconds, $known * $seconds / 0.3));
$mark = $v->mark;
$v->ctl(['answers_off']);
eventually(sub { !grep { $_->{state} eq 'stale' } @{$m->status->{secrets}} }, 60, '… unsealed: all heal without an open');

# A mount on its way from KV 1 to 2 is an outage, not a refusal
$v->ctl([answer => 'GET /v1/secret/(?:data/)?again', { status => 400, errors => ['Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume service shortly.'] }]);
eventually(sub { ($m->attr('again.properties', 'state') // '') eq 'stale' }, 15, 'a mount that is being upgraded: stale') or diag why('again.properties');
read_is($m->path('again.properties'), "a=again-1\n", '… served');
$v->ctl(['answers_off']);

# Several addresses: the next one is asked where one is away
read_is($m->path('moved.properties'), "a=moved-1\n", 'two addresses');
$foreign->ctl(['down']);
$v->ctl([kv2 => 'secret/moved', { k => 'moved-2' }]);
eventually(sub { (($m->cat('moved.properties'))[0] // '') eq "a=moved-2\n" }, 20, '… one is away: the other is asked') or diag why('moved.properties');
is($m->attr('moved.properties', 'state'), 'ok', '… and nothing is stale');
$foreign->ctl(['up']);
is(scalar(() = $m->log_lines(qr/worker died/)), 0, 'no worker has died');

# Leaks
my %canary = map { my $c = $_; open(my $f, '<', '/dev/urandom'); read $f, my $b, 12; $c => "Kanary$c" . unpack 'H*', $b } qw(Token Value Body Html Secret Wrap Query);
$v->ctl([token => $canary{Token}, {}], [kv2 => 'secret/canary', { k => $canary{Value} }],
	[approle => 'role', { secret_ids => { $canary{Secret} => -1 } }],
	[wrap => $canary{Wrap}, { path => 'auth/approle/role/connect/secret-id', data => { secret_id => $canary{Secret} } }]);
spew("$d/role", "role\n");
spew("$d/wrap", "$canary{Wrap}\n");
my $c = $v->setup({ 'c.properties' => "a=\${vault:secret/canary:k}\n", 'w.properties' => "a=\${w:secret/canary:k}\n", 'h.properties' => "a=\${vault:secret/html:k}\n",
	'e.properties' => "a=\${vault:secret/echo:k}\n" }, token => $canary{Token}, settings => { 'connectfs.log.level' => 'debug' },
	providers => { w => { auth => 'approle', token => undef, 'auth.role_id_file_path' => "$d/role", 'auth.secret_id_file_path' => "$d/wrap",
		'auth.secret_id_response_wrapping_path' => 'auth/approle/role/connect/secret-id' } });
my $n = mount_fs(source => $c->{settings});
my @out;
sub look {
	my ($what) = @_;
	$n->cat($_) for qw(c.properties w.properties h.properties e.properties);
	push @out, ["status, $what", slurp($n->control('status.json'))], ["metrics, $what", slurp($n->control('metrics'))];
	for my $f (qw(c.properties w.properties h.properties e.properties)) {
		push @out, ["$f $_, $what", $n->attr($f, s/^user\.connectfs\.//r) // ''] for @{xattr_names($n->path($f)) // []};
	}
	my $r = run(program(), 'status', $n->dir);
	push @out, ["connectfs status, $what", $r->{out} . $r->{err}];
}
$v->ctl([answer => 'secret/(?:data/)?html', { status => 200, body => "<html>$canary{Html}</html>" }],
	[answer => 'secret/(?:data/)?echo', { status => 400, errors => ["bad request with token $canary{Token}"] }]);
is(slurp($n->path('c.properties')), "a=$canary{Value}\n", 'the canary is there');
is(slurp($n->path('w.properties')), "a=$canary{Value}\n", '… by a wrapped secret id too');
look('well');
$v->ctl([answer => 'secret/(?:data/)?canary', { status => 500, body => "$canary{Body} $canary{Token} no JSON" }]);
sleep 0.3;
look('a body that is no JSON');
$v->ctl(['answers_off'], [answer => 'secret/(?:data/)?canary', { status => 200, body => qq({"data":{"data":"$canary{Body}"}}) }]);
sleep 0.5;
look('the wrong type');
$v->ctl(['answers_off'], [kill_token => $canary{Token}], [answer => 'auth/', { status => 400, body => qq({"data":"$canary{Body}","auth":{"client_token":"$canary{Query}"}}) }], ['kill_all_tokens']);
eventually(sub { $n->cat('c.properties'); ($n->attr('c.properties', 'state') // '') =~ /^(?:stale|failed)$/ }, 15, 'its token is dead');
look('a dead token');
my $check = run(program(), 'check', '--online', $c->{settings}, { timeout => 60 });
push @out, ['check --online', $check->{out} . $check->{err}];
$v->ctl(['down']);
sleep 0.5;
look('an outage');
kill SEGV => $n->pid('worker');
eventually(sub { my $x = eval { $n->pids }; $x && $x->{worker} }, 15);
look('after a crash');
push @out, ['the log', $n->log];
for my $o (@out) {
	my ($what, $bytes) = @$o;
	for my $name (sort keys %canary) {
		fail("$name is in: $what"), diag((grep { /\Q$canary{$name}\E/ } split /\n/, $bytes)[0] // '') if index($bytes, $canary{$name}) >= 0;
	}
}
cmp_ok(scalar @out, '>', 20, 'looked at ' . @out . ' outputs for canaries');

done_testing;
