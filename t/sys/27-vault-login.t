# Vault: logins, and the life of tokens. Against a fake.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;
use ConnectFS::FakeVault;

need_fuse();
my $v = ConnectFS::FakeVault->start or plan skip_all => $ConnectFS::FakeVault::WHY;
my @secrets = qw(file revoke wrapped shrink once right blind user jwt none tokenwrap stolen limited);
$v->ctl(
	(map { [kv2 => "secret/$_", { k => "$_-1" }] } @secrets), [kv2 => 'secret/refused', { k => 'x' }],
	[token => 'revoke-1', {}], [token => 'right', {}], [token => 'blind', { lookup_self => JSON::PP::false }], [token => 'limited', { ttl => 6, renewable => 0 }],
	(map { [deny => $_, '^secret/(?:data/)?refused'] } qw(right blind)),
	[approle => 'wrapped', { secret_ids => { 'sid-wrapped' => -1 }, name => 'wrapped' }],
	[wrap => 'wrap-1', { path => 'auth/approle/role/connect/secret-id', data => { secret_id => 'sid-wrapped' } }],
	[wrap => 'wrap-2', { path => 'auth/approle/role/other/secret-id', data => { secret_id => 'sid-wrapped' } }],
	[wrap => 'wrap-3', { path => 'auth/token/create', auth => { client_token => 'inner', accessor => 'a', policies => [], lease_duration => 3600, renewable => JSON::PP::true } }],
	[token => 'inner', { ttl => 3600 }],
	[approle => 'shrink', { secret_ids => { 'sid-shrink' => -1 }, ttl => 3, max => 7, name => 'shrink' }],
	[approle => 'once', { secret_ids => { 'sid-once' => -1 }, ttl => 3600, name => 'once' }],
	[userpass => 'ann', 'pw of ann', { ttl => 3600, name => 'user' }], [jwt => 'a.b.c', { ttl => 3600, name => 'jwt' }],
);
my $d = tmp_dir();
my %file = (revoke => 'revoke-1', right => 'right', blind => 'blind', limited => 'limited', wrap1 => 'wrap-1', wrap2 => 'wrap-2', wrap3 => 'wrap-3',
	role_wrapped => 'wrapped', role_shrink => 'shrink', sid_shrink => 'sid-shrink', role_once => 'once', sid_once => 'sid-once',
	password => 'pw of ann', jwt => 'a.b.c');
spew("$d/$_", "$file{$_}\n") for keys %file;
my $approle = sub { my ($role, $sid, %o) = @_; return { auth => 'approle', token => undef, 'auth.role_id_file_path' => "$d/role_$role",
	'auth.secret_id_file_path' => "$d/$sid", %o } };
my $wrapping = 'auth/approle/role/connect/secret-id';
my %providers = (
	(map { $_ => { token => "$d/$_" } } qw(revoke right blind limited)),
	wrapped => $approle->('wrapped', 'wrap1', 'auth.secret_id_response_wrapping_path' => $wrapping),
	stolen => $approle->('wrapped', 'wrap2', 'auth.secret_id_response_wrapping_path' => $wrapping),
	shrink => $approle->('shrink', 'sid_shrink'), once => $approle->('once', 'sid_once', 'poll.ms' => 100, 'fresh.ms' => 0),
	user => { auth => 'userpass', token => undef, 'auth.username' => 'ann', 'auth.password_file_path' => "$d/password" },
	jwt => { auth => 'jwt', token => undef, 'auth.role' => 'connect', 'auth.jwt_path' => "$d/jwt" },
	none => { auth => 'none', token => undef },
	tokenwrap => { token => "$d/wrap3", 'auth.token_wrapped' => 'true' },
);
my %stored = map { my $p = $_ eq 'file' ? 'vault' : $_; ("$_.properties" => "a=\${$p:secret/$_:k}\n") } @secrets;
$stored{"refused-$_.properties"} = "a=\${$_:secret/refused:k}\n" for qw(right blind);
my $s = $v->setup(\%stored, token => 'not yet', providers => \%providers);
my $m = mount_fs(source => $s->{settings}, args => ['-s', 'connectfs.log.level=info']);
sub why { return $m->attr("$_[0].properties", 'error') // '' }
sub state_of { return $m->attr("$_[0].properties", 'state') // '' }
sub provider { my ($name) = @_; my ($p) = grep { $_->{name} eq $name } @{$m->status->{providers}}; return $p }
sub reads { my ($name, $what) = @_; return read_is($m->path("$name.properties"), "a=$name-1\n", $what) }
# Logins: each makes a token of its own
sub logins { my ($name) = @_; return scalar grep { $_->{path} =~ m{/login} && ($_->{body} =~ /\Q$name\E/) } $v->log }

# A token file that is not good yet, and then rewritten
is_errno(($m->cat('file.properties'))[1], ['EKEYREJECTED', 'EIO'], 'a bad token');
like(why('file'), qr/token|403|denied/, '… and why');
ok(defined provider('vault')->{error}, '… the status says that it can not log in');
$v->ctl([token => 'good', {}]);
replace($s->{token}, "good\n");
eventually(sub { ($m->cat('file.properties'))[0] }, 15, '… the file is rewritten: it heals');
reads('file', '… and reads');
is(provider('vault')->{error}, undef, '… the status too');

# A token is revoked while it is used
reads('revoke', 'a token by file');
my $w = watch($m->path('revoke.properties'));
$v->ctl([kill_token => 'revoke-1']);
eventually(sub { state_of('revoke') eq 'stale' }, 15, 'revoked: stale, without an open');
reads('revoke', '… served');
like(why('revoke'), qr/token|login|403|denied/, '… with the reason');
my $mark = $v->mark;
sleep 1;
cmp_ok(scalar(grep { $_->{token} eq 'revoke-1' } splice @{[$v->log]}, $mark), '<=', 12, '… not asked without an end');
$v->ctl([token => 'revoke-2', {}], [kv2 => 'secret/revoke', { k => 'revoke-2' }]);
replace("$d/revoke", "revoke-2\n");
eventually(sub { state_of('revoke') eq 'ok' }, 20, 'another token in the file heals it, without an open');
ok($w->await('MODIFY', 10), '… told by inotify');
read_is($m->path('revoke.properties'), "a=revoke-2\n", '… and read');

# Newer Vaults say "invalid token"
$v->ctl([invalid => 1], [kill_token => 'revoke-2'], [token => 'revoke-3', {}]);
eventually(sub { state_of('revoke') eq 'stale' }, 15, '"invalid token": stale');
$v->ctl([invalid => 0]);
replace("$d/revoke", "revoke-3\n");
eventually(sub { state_of('revoke') eq 'ok' }, 20, '… healed');

# A right is missing: the token lives, whether it may look itself up or not
for my $name (qw(right blind)) {
	reads($name, "$name: its own secret");
	is_errno(($m->cat("refused-$name.properties"))[1], 'EKEYREJECTED', "$name: another one is refused");
	reads($name, "$name: its own goes on");
	is(state_of($name), 'ok', '… as ok');
}
cmp_ok(scalar(grep { $_->{token} eq 'blind' && $_->{path} =~ /lookup-self/ } $v->log), '<=', 4, 'a refused lookup-self is not asked again and again');

# Wrapped secret ids
reads('wrapped', 'AppRole with a wrapped secret id');
is(scalar(grep { $_->{path} =~ m{wrapping/unwrap} && "$_->{body} $_->{token}" =~ /wrap-1|wrapping/ && $_->{status} == 200 && $_->{body} !~ /wrap-3/ } $v->log) >= 1, 1, '… unwrapped once');
my $unwraps = $v->count(qr{wrapping/unwrap});
isnt(($m->cat('stolen.properties'))[1], undef, 'a wrapping token of another path is refused');
is($v->count(qr{wrapping/unwrap}), $unwraps, '… and not opened');
like(why('stolen'), qr/wrapping token/, '… and why');
ok(scalar($m->log_lines(qr/stolen.*wrap/i)), '… and told in the log') or diag $m->log;
reads('tokenwrap', 'a token file with a wrapping token');

# Other methods
reads('user', 'userpass');
reads('jwt', 'JWT');
is(provider('jwt')->{login}, 'jwt', '… as the status says');
$v->ctl([answer => 'GET /v1/secret/(?:data/)?none', { status => 200, body => '{"data":{"data":{"k":"none-1"},"metadata":{"version":1}}}' }]);
$v->ctl([answer => 'GET /v1/sys/internal/ui/mounts/secret/none', { status => 200, body => '{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}' }]);
reads('none', 'none: an Agent adds the token');
is(scalar(grep { $_->{path} =~ /none/ && $_->{token} ne '' } $v->log), 0, '… none is sent');
$v->ctl(['answers_off']);

# A token that can't be extended: a warning in time
reads('limited', 'a token that is not renewable');
eventually(sub { scalar $m->log_lines(qr/limited.*token/i) }, 15, '… is warned of in the log') or diag $m->log;

# Renewal until that no longer extends it, then a new login; no read fails meanwhile
reads('shrink', 'a short token');
my ($failed, $reads) = (0, 0);
eventually(sub { $reads++; $failed++ if (($m->cat('shrink.properties'))[0] // '') ne "a=shrink-1\n"; logins('"shrink"') >= 3 }, 40, 'renewed, then logged in anew, more than once');
is($failed, 0, "… none of $reads reads failed");
cmp_ok(scalar(grep { $_->{path} =~ /renew-self/ && $_->{token} =~ /^shrink/ } $v->log), '>=', 2, '… it was renewed');
my $made = logins('"shrink"');
my $first = (grep { $_->{body} =~ /"shrink"/ } $v->log)[0]{time};
cmp_ok($made, '<=', 2 + (time - $first) / 3.5, "… $made logins are not more than its life asks for");

# At most one login a minute is caused by 403s
reads('once', 'AppRole');
is(logins('"once"'), 1, '… one login');
my $kill = sub { my ($t) = grep { $_->{token} =~ /^once/ } reverse $v->log; $v->ctl(['kill_tokens_named', '^once']) };
$kill->();
eventually(sub { logins('"once"') == 2 && state_of('once') eq 'ok' }, 15, 'its token is dead: one new login') or diag why('once');
$v->ctl([kv2 => 'secret/once', { k => 'once-2' }]);
eventually(sub { (($m->cat('once.properties'))[0] // '') eq "a=once-2\n" }, 10, '… works');
$kill->();
eventually(sub { $m->cat('once.properties'); state_of('once') eq 'stale' }, 15, 'dead again within the minute: stale');
ok(always_within(sub { $m->cat('once.properties'); logins('"once"') == 2 }, 4), '… and no login is made because of it');
read_is($m->path('once.properties'), "a=once-2\n", '… served');

# A login that fails is an outage of what was read before, and tried again with back-off
$v->ctl([answer => 'auth/userpass', { status => 400, errors => ['invalid username or password'] }], ['kill_tokens_named', '^user']);
eventually(sub { state_of('user') eq 'stale' }, 15, 'the password is refused: stale');
$mark = $v->mark;
sleep 2.5;
cmp_ok($v->count(qr{auth/userpass}, $mark), '<=', 4, '… with back-off');
$v->ctl(['answers_off'], [userpass => 'ann', 'another', { ttl => 3600, name => 'user' }]);
replace("$d/password", "another\n");
eventually(sub { state_of('user') eq 'ok' }, 75, '… its file is rewritten: healed');
is(scalar(() = $m->log_lines(qr/worker died/)), 0, 'no worker has died');

done_testing;
