# Vault: leases. One read makes one, whoever uses it; it is renewed, replaced for who uses it, and outlives the worker.
# Against a fake, whose accounts are counted.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;
use ConnectFS::FakeVault;

need_fuse();
my $v = ConnectFS::FakeVault->start or plan skip_all => $ConnectFS::FakeVault::WHY;
my @roles = qw(long revoked short lapse again operator kept reloaded forced token);
$v->ctl([token => 'root', {}], [token => 'killed', {}],
	(map { [role => "database/creds/$_", { ttl => 3600, max => 7200 }] } qw(long revoked kept reloaded forced token)),
	[role => 'database/creds/short', { ttl => 3, max => 9 }], [role => 'database/creds/lapse', { ttl => 2, max => 4 }],
	[role => 'database/creds/operator', { ttl => 4, max => 3600 }], [role => 'database/creds/again', { ttl => 3, max => 3600 }],
	[role => 'pki/issue/web', { data => { certificate => 'the certificate', private_key => 'the key', expiration => int(time) + 3600 } }],
	[role => 'database/static-creds/st', { data => { username => 'st', password => 'first', last_vault_rotation => '2026-01-01T00:00:00.1Z', rotation_period => 100, ttl => 100 } }]);
my %stored = map { my $p = $_ eq 'token' ? 'mortal' : 'vault'; ("$_.properties" => "u=\${$p:database/creds/$_:username}\np=\${$p:database/creds/$_:password}\n") } @roles;
$stored{"long$_.properties"} = "n=$_\nu=\${vault:database/creds/long:username}\n" for 1 .. 8;
$stored{'pki.properties'} = "c=\${vault:pki/issue/web?common_name=a.example&ttl=24h:certificate}\nk=\${vault:pki/issue/web?common_name=a.example&ttl=24h:private_key}\n";
$stored{'static.properties'} = "u=\${vault:database/static-creds/st:username}\np=\${vault:database/static-creds/st:password}\n";
my $d = tmp_dir();
spew("$d/killed", "killed\n");
my $s = $v->setup(\%stored, providers => { mortal => { token => "$d/killed" } });
my $m = mount_fs(source => $s->{settings});
sub made { my ($role) = @_; return $v->count("GET /v1/database/creds/$role") }
sub bytes { my ($name) = @_; my ($b) = $m->cat("$name.properties"); return $b // '' }
sub lease_of { my ($role) = @_; my $l = $v->leases; my ($id) = sort { $l->{$b}{made} <=> $l->{$a}{made} } grep { m{/\Q$role\E/} } keys %$l; return ($id, $l->{$id // ''}) }
sub state_of { return $m->attr("$_[0].properties", 'state') // '' }
sub good { my ($name, $what) = @_; return like(bytes($name), qr/\Au=v-user-(\d+)\np=v-pass-\1\n\z/, $what) }

# The operator's revocation is seen by a look-up once a minute: begun here, waited for at the end
good('revoked', 'a lease that will be revoked');
my $revoked_bytes = bytes('revoked');
my ($revoked_id) = lease_of('revoked');
$v->ctl([revoke_lease => $revoked_id]);
my $revoked_watch = watch($m->path('revoked.properties'));

# One read, however many connectors and opens
good('long', 'user and password are of one answer');
my $first = bytes('long');
for my $round (1 .. 5) { $m->cat("long$_.properties") for 1 .. 8 }
is(made('long'), 1, 'one read for 9 connectors and all their opens');
my ($user_line) = split /\n/, $first;
is(scalar(grep { index($_, $user_line) >= 0 } map { bytes("long$_") } 1 .. 8), 8, '… with the same account');
my $secret = $m->secret('vault', 'database/creds/long');
is($secret->{rotation}, 'lease', 'the status says: a lease');
ok(defined $m->attr('long.properties', 'expires'), '… and when it expires');
my ($p) = grep { $_->{name} eq 'vault' } @{$m->status->{providers}};
cmp_ok($p->{leases}, '>=', 1, '… how many there are');

# At the same time by many readers
my @readers = map { start('cat', $m->path('forced.properties')) } 1 .. 8;
$_->finish(20) for @readers;
is(made('forced'), 1, 'eight readers at once make one');

# Renewal keeps it as long as it is extended
good('again', 'short, with a far end');
my $again = bytes('again');
my ($again_id) = lease_of('again');
eventually(sub { $v->leases->{$again_id}{renewals} >= 3 }, 30, 'renewed again and again');
is(bytes('again'), $again, '… the same account');
is(made('again'), 1, '… of one read');

# Replaced before its end for who uses it, with overlap
good('short', 'max 9 s');
my $before = bytes('short');
my ($short_id) = lease_of('short');
my ($bad, $after, $old_lived) = (0, '', 0);
eventually(sub {
	$after = bytes('short');
	my $leases = $v->leases;
	my ($user) = $after =~ /^u=(\S+)/;
	# The account that was read lives
	$bad++ unless grep { $_->{account} eq ($user // '') && $_->{live} } values %$leases;
	$old_lived = $leases->{$short_id}{live} if $after ne $before;
	return $after ne $before;
}, 30, 'replaced');
is($bad, 0, '… what was read was an account that lived, each time');
ok($old_lived, '… the old one lived on when the new one was published');
is(made('short'), 2, '… by one read');

# … and left to lapse by who does not
good('lapse', 'max 4 s');
eventually(sub { state_of('lapse') eq 'idle' }, 40, 'nobody opens it: it lapses, idle again') or diag state_of('lapse');
my $lapsed = made('lapse');
cmp_ok($lapsed, '<=', 2, "… $lapsed read(s)");
ok(always_within(sub { made('lapse') == $lapsed }, 5), '… and no more: one cat makes no accounts for ever');
good('lapse', '… the next open makes one');
is(made('lapse'), $lapsed + 1, '… one');

# Revoked by an operator: the next renewal says so
good('operator', 'a lease');
my $op = bytes('operator');
my ($op_id) = lease_of('operator');
$v->ctl([revoke_lease => $op_id]);
eventually(sub { my $b = bytes('operator'); $b =~ /^u=v-user/ && $b ne $op }, 30, 'an operator revokes it: replaced');
is(made('operator'), 2, '… by one read');

# A worker's death
good('kept', 'a lease');
my $kept = bytes('kept');
my $accounts = scalar keys %{$v->leases};
my ($kept_id) = lease_of('kept');
for my $round (1 .. 3) {
	my $worker = $m->pids->{worker};
	kill KILL => $worker;
	eventually(sub { my $x = eval { $m->pids }; $x && $x->{worker} && $x->{worker} != $worker }, 20, "worker killed, $round");
	is(bytes('kept'), $kept, '… the same account');
}
is(made('kept'), 1, 'no lease is made by a death');
my ($again_now) = lease_of('again');
is($again_now, $again_id, '… a lease that must be renewed was not made anew');
my $renewals = $v->leases->{$again_id}{renewals};
eventually(sub { $v->leases->{$again_id}{renewals} > $renewals }, 20, '… the successor renews it');
is(scalar(grep { $_->{path} =~ m{leases/revoke} } $v->log), 0, '… nothing is revoked');

# A reload
good('reloaded', 'a lease');
my $r = run(program(), 'reload', $m->dir, { timeout => 60 });
is($r->{status}, 0, 'reload') or diag $r->{err};
is(bytes('kept'), $kept, '… the same account');
is(made($_), 1, "… no new lease: $_") for qw(kept reloaded long);

# refresh
my $l0 = made('forced');
my $forced = bytes('forced');
my ($forced_id) = lease_of('forced');
$r = run(program(), 'refresh', $m->dir, 'forced', { timeout => 60 });
is($r->{status}, 0, 'refresh') or diag $r->{err};
is(made('forced'), $l0, '… does not replace a lease');
$r = run(program(), 'refresh', '--leases', $m->dir, 'forced', { timeout => 60 });
is($r->{status}, 0, 'refresh --leases') or diag $r->{err};
eventually(sub { my $b = bytes('forced'); $b =~ /^u=v-user/ && $b ne $forced }, 15, '… replaces it');
is(made('forced'), $l0 + 1, '… by one read');
ok($v->leases->{$forced_id}{live}, '… the old one is not revoked: connectors restart meanwhile');

# Its token is dead: so is the lease. With another token there is another.
good('token', 'a lease');
my $mortal = bytes('token');
$v->ctl([kill_token => 'killed']);
$r = run(program(), 'refresh', '--leases', $m->dir, 'token', { timeout => 60 });
eventually(sub { my ($b, $e) = $m->cat('token.properties'); defined $e || $b ne $mortal }, 75, 'the token is revoked, the lease is gone with it: not served');
isnt(bytes('token'), $mortal, '… nor later');
$v->ctl([token => 'next', {}]);
replace("$d/killed", "next\n");
eventually(sub { bytes('token') =~ /^u=v-user/ }, 75, 'another token in the file: another lease');

# A certificate: written to with the parameters, once; a static role: no lease, read when it rotates
like(bytes('pki'), qr/\Ac=the certificate\nk=the key\n\z/, 'PKI');
my @issued = grep { $_->{path} =~ m{^/v1/pki/issue} } $v->log;
is(scalar @issued, 1, '… one write for both references');
is($issued[0]{method} =~ /^(?:POST|PUT)$/ ? 'a write' : $issued[0]{method}, 'a write', '… a write');
is_deeply(eval { JSON::PP->new->decode($issued[0]{body}) }, { common_name => 'a.example', ttl => '24h' }, '… with the parameters') or diag $issued[0]{body};
is(bytes('static'), "u=st\np=first\n", 'a static role');
my $sw = watch($m->path('static.properties'));
my $mark = $v->mark;
$v->ctl([role => 'database/static-creds/st', { data => { username => 'st', password => 'first', last_vault_rotation => '2026-01-01T00:00:00.1Z', rotation_period => 100, ttl => 0 } }]);
run(program(), 'refresh', $m->dir, 'static', { timeout => 60 });
eventually(sub { $v->count(qr{static-creds}, $mark) >= 4 }, 10, '… with ttl 0 it is read again soon');
$v->ctl([role => 'database/static-creds/st', { data => { username => 'st', password => 'second', last_vault_rotation => '2026-01-01T00:01:00.1Z', rotation_period => 100, ttl => 100 } }]);
ok($sw->await('MODIFY', 10), '… and told when it has rotated');
is(bytes('static'), "u=st\np=second\n", '… read');

# The look-up of the beginning
eventually(sub { my $b = bytes('revoked'); $b =~ /^u=v-user/ && $b ne $revoked_bytes }, 90, 'a look-up a minute finds what an operator has revoked');
is(made('revoked'), 2, '… replaced by one read');
my @looks = grep { $_->{path} =~ m{sys/leases/lookup} && $_->{body} =~ m{creds/long/} } $v->log;
cmp_ok(scalar @looks, '<=', 4, 'a lease is looked up once a minute, not more often');
is(scalar(() = $m->log_lines(qr/worker died/)), 3, 'no worker has died but those that were killed') or diag $m->log;

done_testing;
