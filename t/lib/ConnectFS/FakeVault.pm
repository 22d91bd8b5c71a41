package ConnectFS::FakeVault;

# A Vault that does on demand what a real one can't be made to do. It runs in a process of its own (this file as a
# program: Mojolicious), which ends with the test, and is told what to hold and how to misbehave by a second port:
#
#     my $v = ConnectFS::FakeVault->start;               # or undef: why is in $ConnectFS::FakeVault::WHY
#     $v->ctl([kv2 => 'secret/db', { user => 'a' }], [token => 'root', {}]);
#     $v->count('GET /v1/secret/data/db');               # requests so far, whatever their order
#
# What it holds is real time's: a token with a TTL of 2 ends after 2 s. Orders (each a list, first its name):
#
#     mount PATH {type, version}          discovery; without any: secret/ is KV 2, kv1/ KV 1, database/, pki/
#     kv1 PATH {…}                        kv2 PATH {…}: a new version
#     version PATH N {deletion_time, destroyed}          what is said of it (data is null then, unless it is live)
#     remove PATH                         all of it
#     answer PATTERN {status, errors, body, headers, delay, cut, hang, times}   for a "METHOD PATH?QUERY" that matches
#     answers_off                         no more of those
#     token ID {name, ttl, renewable, max, period, lookup_self: false, default: false, deny: [PATTERN], shrink, wrong}
#     kill_token ID, kill_tokens_named PATTERN, kill_all_tokens
#     deny ID PATTERN…                    403 for its paths
#     approle ROLE_ID {secret_ids: {ID: uses}, ttl, renewable, max, …as token}  secret_id ROLE_ID SECRET_ID uses
#     userpass USER PASSWORD {…}          jwt TEXT {…}
#     wrap TOKEN {path, data}             a wrapped answer
#     role PATH {ttl, max, renewable, data}   database/creds/NAME: each read makes an account and a lease
#     revoke_lease ID                     by an operator
#     invalid 0|1                         is "invalid token" said of dead tokens (newer Vaults)?
#     down, up                            connections are refused, or not
use strict;
use warnings;
use HTTP::Tiny ();
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time);

our $WHY;

my $json = JSON::PP->new->utf8->canonical;

# ---- for the test -----------------------------------------------------------------------------

sub start {
	my ($class, %o) = @_;
	if (!eval { require Mojolicious; require Mojo::Server::Daemon; 1 }) {
		$WHY = 'Mojolicious is not installed (Debian: libmojolicious-perl)';
		return undef;
	}
	if ($o{cert} && !eval { require IO::Socket::SSL; 1 }) {
		$WHY = 'IO::Socket::SSL is not installed (Debian: libio-socket-ssl-perl)';
		return undef;
	}
	my $self = bless { %o, ports => ConnectFS::Test::tmp_dir() . '/ports' }, $class;
	$self->{process} = ConnectFS::Test::start($^X, __FILE__, $self->{ports}, $o{cert} // '', $o{key} // '');
	ConnectFS::Test::eventually(sub { -s $self->{ports} || $self->{process}->ended }, 20);
	my @ports = split ' ', -s $self->{ports} ? ConnectFS::Test::slurp($self->{ports}) : '';
	die 'the fake Vault did not start: ' . $self->{process}->errors . "\n" unless @ports == 2;
	@$self{qw(port control)} = @ports;
	$self->{http} = HTTP::Tiny->new(timeout => 20, keep_alive => 0, proxy => undef, http_proxy => undef);
	return $self;
}

# The address for the settings
sub url { my ($self) = @_; return ($self->{cert} ? 'https' : 'http') . "://127.0.0.1:$self->{port}" }

sub ctl {
	my ($self, @orders) = @_;
	my $r = $self->{http}->post("http://127.0.0.1:$self->{control}/", { content => $json->encode(\@orders) });
	die "fake Vault: $r->{status} $r->{content}\n" unless $r->{success};
	return $json->decode($r->{content});
}

# All requests: { method, path (with query), token (its name, "" without, "?" unknown), status, time, namespace, body }
sub log { my ($self) = @_; return @{$self->ctl(['log'])->[0]} }
# How many match "METHOD PATH" (a string: the beginning; a pattern), after a mark
sub count {
	my ($self, $what, $mark) = @_;
	my @all = $self->log;
	splice @all, 0, $mark // 0;
	return scalar grep { my $l = "$_->{method} $_->{path}"; ref $what ? $l =~ $what : index($l, $what) == 0 } @all;
}
sub mark { my ($self) = @_; return scalar(my @all = $self->log) }
# Settings of a mount with the provider "vault" (and others: $o{providers} = { name => {params} }) in a directory of
# its own: { dir, stored, settings, token (the file) }
sub setup {
	my ($self, $stored, %o) = @_;
	my $d = ConnectFS::Test::tmp_dir();
	my $s = { dir => $d, stored => "$d/stored", settings => "$d/connectfs.properties", token => "$d/token" };
	mkdir $s->{stored};
	ConnectFS::Test::spew("$s->{stored}/$_", $stored->{$_}) for keys %$stored;
	ConnectFS::Test::spew($s->{token}, ($o{token} // 'root') . "\n");
	my %providers = (vault => $o{params} // {}, %{$o{providers} // {}});
	my %lines = ('config.providers' => join(',', sort keys %providers), 'connectfs.store.directory' => $s->{stored}, 'connectfs.wait.ms' => 3000, %{$o{settings} // {}});
	for my $name (keys %providers) {
		my %p = ('fresh.ms' => 200, 'poll.ms' => 300, address => $self->url, token => $s->{token}, %{$providers{$name}});
		$lines{"config.providers.$name.class"} = delete $p{class} // 'vault';
		$lines{"config.providers.$name.param.$_"} = $p{$_} for grep { defined $p{$_} } keys %p;
	}
	ConnectFS::Test::settings_file($s->{settings}, %lines);
	return $s;
}

# { id => {path, end, revoked, live, account, renewals} }
sub leases { my ($self) = @_; return $self->ctl(['leases'])->[0] }
sub live_leases { my ($self) = @_; my $l = $self->leases; return grep { $l->{$_}{live} } sort keys %$l }

# ---- the server -------------------------------------------------------------------------------

my (%mount, %kv1, %kv2, @answers, %token, %approle, %userpass, %jwt, %wrap, %role, %lease, @log);
my ($invalid, $serial, $down) = (0, 0, 0);
my ($daemon, $loop);

sub _rfc3339 {
	my ($t) = @_;
	return POSIX::strftime('%Y-%m-%dT%H:%M:%S', gmtime $t) . sprintf '.%09dZ', ($t - int $t) * 1e9;
}

sub _new_token {
	my ($id, $o) = @_;
	my $ttl = $o->{ttl} // 0;
	$token{$id} = { renewable => 1, %$o, name => $o->{name} // $id, made => time, end => $ttl ? time + $ttl : 0 };
	return $token{$id};
}

# undef: unknown or dead. Its leases end with it.
sub _living {
	my ($id) = @_;
	my $t = $token{$id // ''} or return undef;
	return undef if $t->{dead} || ($t->{end} && time >= $t->{end});
	return $t;
}

sub _lease_lives { my ($l) = @_; return !$l->{revoked} && time < $l->{end} && _living($l->{token}) }

sub _errors { my ($status, @text) = @_; return ($status, { errors => \@text }) }
sub _data { my ($data, %more) = @_; return (200, _envelope(data => $data, %more)) }
sub _envelope {
	my (%o) = @_;
	return { request_id => sprintf('r-%d', ++$serial), lease_id => '', renewable => JSON::PP::false, lease_duration => 0,
		data => undef, wrap_info => undef, warnings => undef, auth => undef, %o };
}

sub _bool { return $_[0] ? JSON::PP::true : JSON::PP::false }

sub _auth {
	my ($id, $t) = @_;
	return { client_token => $id, accessor => "a-$t->{name}", policies => ['default'], token_policies => ['default'],
		lease_duration => $t->{end} ? int($t->{end} - time + 0.01) : 0, renewable => _bool($t->{renewable}),
		token_type => $t->{batch} ? 'batch' : 'service', orphan => JSON::PP::true, num_uses => $t->{num_uses} // 0,
		mfa_requirement => undef };
}

sub _login {
	my ($o) = @_;
	my $n = ++$serial;
	my $id = ($o->{prefix} // 's.login') . $n;
	return (200, _envelope(auth => _auth($id, _new_token($id, { %$o, name => ($o->{name} // 'login') . "-$n" }))));
}

sub _dead_text { return $invalid ? ('permission denied', 'invalid token') : ('permission denied') }

sub _logins {
	my ($path, $in) = @_;
	if ($path =~ m{^auth/[^/]+/login$} && exists $in->{role_id}) {
		my $a = $approle{$in->{role_id}} or return _errors(400, 'invalid role or secret ID');
		my $left = $a->{secret_ids}{$in->{secret_id} // ''};
		return _errors(400, 'invalid role or secret ID') if !defined $left || $left == 0;
		$a->{secret_ids}{$in->{secret_id}}-- if $left > 0;
		return _login($a);
	}
	if ($path =~ m{^auth/[^/]+/login/([^/]+)$}) {
		my $u = $userpass{$1};
		return _errors(400, 'invalid username or password') unless $u && $u->{password} eq ($in->{password} // '');
		return _login($u);
	}
	if ($path =~ m{^auth/[^/]+/login$} && exists $in->{jwt}) {
		my $j = $jwt{$in->{jwt}} or return _errors(400, 'error validating token');
		return _login($j);
	}
	return;
}

sub _renew_self {
	my ($id, $t, $in) = @_;
	return _errors(400, 'lease is not renewable') unless $t->{renewable};
	my $ttl = $t->{period} || $t->{ttl};
	$ttl = $t->{ttl} = $ttl * $t->{shrink} if $t->{shrink};
	my $end = time + $ttl;
	$end = $t->{made} + $t->{max} if $t->{max} && $end > $t->{made} + $t->{max};
	$t->{end} = $end;
	return (200, _envelope(auth => _auth($id, $t)));
}

sub _lookup_self {
	my ($id, $t) = @_;
	my $left = $t->{end} ? int($t->{end} - time + 0.01) : 0;
	return _data({ id => $id, accessor => "a-$t->{name}", ttl => $left, creation_ttl => $t->{ttl} // 0,
		renewable => _bool($t->{renewable} && $t->{end}), expire_time => $t->{end} ? _rfc3339($t->{end}) : undef,
		explicit_max_ttl => $t->{max} // 0, num_uses => $t->{num_uses} // 0, policies => ['default'], type => 'service',
		orphan => JSON::PP::true, path => 'auth/token/create', $t->{period} ? (period => $t->{period}) : () });
}

sub _leases_api {
	my ($what, $in) = @_;
	my $l = $lease{$in->{lease_id} // ''};
	return _errors(400, $what eq 'lookup' ? 'invalid lease' : 'lease not found') unless $l && _lease_lives($l);
	if ($what eq 'renew') {
		return _errors(400, 'lease is not renewable') unless $l->{renewable};
		$l->{renewals}++;
		$l->{ttl} *= $l->{shrink} if $l->{shrink};
		$l->{end} = time + $l->{ttl};
		$l->{end} = $l->{last} if $l->{end} > $l->{last};
		return (200, _envelope(lease_id => $in->{lease_id}, renewable => _bool(1), lease_duration => int($l->{end} - time + 0.01)));
	}
	if ($what eq 'lookup') {
		return _data({ id => $in->{lease_id}, ttl => int($l->{end} - time + 0.01), renewable => _bool($l->{renewable}),
			issue_time => _rfc3339($l->{made}), expire_time => _rfc3339($l->{end}), last_renewal => undef });
	}
	$l->{revoked} = 1;
	return (204);
}

sub _mount_of {
	my ($path) = @_;
	my ($m) = sort { length $b <=> length $a } grep { index("$path/", $_) == 0 } keys %mount;
	return $m;
}

sub _unwrap {
	my ($id) = @_;
	my $w = $wrap{$id // ''};
	return _errors(400, 'wrapping token is not valid or does not exist') if !$w || $w->{used};
	$w->{used} = 1;
	return (200, _envelope(%{$w->{answer}}));
}

sub _kv2 {
	my ($mount, $rest, $version) = @_;
	if ($rest =~ s{^metadata/}{}) {
		my $s = $kv2{"$mount$rest"} or return _errors(404);
		my $n = 0;
		return _data({ current_version => scalar @$s, oldest_version => 1, versions => { map { ++$n => {
			created_time => $_->{created}, deletion_time => $_->{deletion_time} // '', destroyed => _bool($_->{destroyed}) } } @$s } });
	}
	return _errors(404) unless $rest =~ s{^data/}{};
	my $s = $kv2{"$mount$rest"} or return _errors(404);
	$version ||= @$s;
	my $v = $s->[$version - 1] or return _errors(404);
	my $meta = { created_time => $v->{created}, custom_metadata => undef, deletion_time => $v->{deletion_time} // '',
		destroyed => _bool($v->{destroyed}), version => $version + 0 };
	my $gone = $v->{destroyed} || ($v->{deletion_time} && $v->{deletion_time} lt _rfc3339(time));
	return ($gone ? 404 : 200, _envelope(data => { data => $gone ? undef : $v->{data}, metadata => $meta }));
}

sub _account {
	my ($path, $r, $id) = @_;
	my $n = ++$serial;
	my $lease = "$path/l$n";
	my $account = { username => "v-user-$n", password => "v-pass-$n" };
	$lease{$lease} = { path => $path, ttl => $r->{ttl}, end => time + $r->{ttl}, last => time + ($r->{max} // 1e9), made => time,
		renewable => $r->{renewable} // 1, shrink => $r->{shrink}, token => $id, account => $account->{username}, renewals => 0 };
	return (200, _envelope(lease_id => $lease, lease_duration => $r->{ttl}, renewable => _bool($r->{renewable} // 1), data => $account));
}

# (status, answer) of a request that nothing else is ordered for
sub _serve {
	my ($method, $path, $query, $id, $in) = @_;
	return (200, { initialized => _bool(1), sealed => _bool(0), standby => _bool(0), version => '0.fake' }) if $path eq 'sys/health';
	my @login = $path =~ m{^auth/} ? _logins($path, $in) : ();
	return @login if @login;
	return _unwrap($in->{token} // $id) if $path eq 'sys/wrapping/unwrap';
	if ($path eq 'sys/wrapping/lookup') {
		my $w = $wrap{$in->{token} // $id // ''};
		return _errors(403, 'permission denied') if !$w || $w->{used};
		return _data({ creation_path => $w->{path}, creation_time => _rfc3339(time), creation_ttl => 60 });
	}
	my $t = _living($id) or return _errors(403, _dead_text());
	$t->{uses}++;
	if ($path eq 'auth/token/lookup-self' && exists $t->{lookup_self} && !$t->{lookup_self}) {
		return _errors(403, "1 error occurred:\n\t* permission denied\n\n");
	}
	return _errors(403, "1 error occurred:\n\t* permission denied\n\n") if grep { $path =~ /$_/ } @{$t->{deny} // []};
	return _lookup_self($id, $t) if $path eq 'auth/token/lookup-self';
	return _renew_self($id, $t, $in) if $path eq 'auth/token/renew-self';
	if ($path eq 'auth/token/revoke-self') { $t->{dead} = 1; return (204) }
	return _leases_api($1, $in) if $path =~ m{^sys/leases/(renew|lookup|revoke)$};
	if ($path =~ m{^sys/internal/ui/mounts/(.+)$}) {
		my $m = _mount_of($1) // return _errors(403, "preflight capability check returned 403, please ensure client's policies grant access to path \"$1/\"");
		my $o = $mount{$m};
		return _data({ path => $m, type => $o->{type}, options => $o->{version} ? { version => "$o->{version}" } : undef });
	}
	if ($role{$path}) {
		my $r = $role{$path};
		return $r->{ttl} ? _account($path, $r, $id) : _data($r->{data});
	}
	my $m = _mount_of($path) // return _errors(404, "no handler for route \"$path\"");
	my $o = $mount{$m};
	my $rest = substr $path, length $m;
	return _kv2($m, $rest, $query->{version}) if $o->{type} eq 'kv' && $o->{version} == 2;
	return _errors(404) unless $kv1{$path};
	return _data($kv1{$path}, lease_duration => 2764800);
}

sub _reply {
	my ($tx, $status, $answer, $headers) = @_;
	my $res = $tx->res;
	$res->code($status);
	$res->headers->content_type('application/json');
	$res->headers->header($_ => $headers->{$_}) for keys %{$headers // {}};
	$res->body(ref $answer ? $json->encode($answer) : $answer) if defined $answer;
	$tx->resume;
}

# What has been ordered for it
sub _ordered {
	my ($tx, $a) = @_;
	my $stream = $loop->stream($tx->connection);
	return if $a->{hang};
	my $body = $a->{body} // (defined $a->{big} ? '{"data":{"v":"' . 'x' x $a->{big} . '"}}' : $json->encode({ errors => $a->{errors} // [] }));
	if (defined $a->{cut}) {
		my $head = "HTTP/1.1 $a->{status} Cut\r\nContent-Type: application/json\r\nContent-Length: " . length($body) . "\r\n\r\n";
		$stream->write($head . substr($body, 0, $a->{cut}), sub { $_[0]->close });
		return;
	}
	if ($a->{drop}) { $stream->close; return }
	_reply($tx, $a->{status} // 200, $body, $a->{headers});
}

sub _request {
	my ($tx) = @_;
	my $req = $tx->req;
	my ($method, $url) = ($req->method, $req->url);
	my $path = $url->path->to_string;
	my $full = $path . (length $url->query->to_string ? '?' . $url->query->to_string : '');
	my $id = $req->headers->header('X-Vault-Token');
	my $in = length $req->body ? eval { $json->decode($req->body) } // {} : {};
	my $known = defined $id ? ($token{$id} ? $token{$id}{name} : $wrap{$id} ? 'wrapping' : '?') : '';
	my $entry = { method => $method, path => $full, token => $known, time => time, vault_request => $req->headers->header('X-Vault-Request') // '',
		namespace => $req->headers->header('X-Vault-Namespace') // '', body => $req->body, expect => $req->headers->header('Expect') // '' };
	push @log, $entry;
	my ($a) = grep { "$method $full" =~ $_->{pattern} } @answers;
	if ($a) {
		$entry->{status} = $a->{status} // 0;
		@answers = grep { $_ != $a } @answers if $a->{times} && !--$a->{times};
		if ($a->{through}) { $a = undef }
		elsif ($a->{delay} && !defined $a->{status}) { # the true answer, later
			$loop->timer($a->{delay} => sub { _answer($tx, $entry, $method, $path, $url, $id, $in) });
			return;
		} elsif ($a->{delay}) { $loop->timer($a->{delay} => sub { _ordered($tx, $a) }); return }
		else { _ordered($tx, $a); return }
	}
	_answer($tx, $entry, $method, $path, $url, $id, $in);
}

sub _answer {
	my ($tx, $entry, $method, $path, $url, $id, $in) = @_;
	my ($status, $answer) = $path =~ s{^/v1/}{} ? _serve($method, $path, $url->query->to_hash, $id, $in) : _errors(404);
	$entry->{status} = $status;
	_reply($tx, $status, $answer);
}

sub _listen {
	my ($port, $cert, $key) = @_;
	my $address = $cert ? "https://127.0.0.1:$port?cert=$cert&key=$key&verify=0" : "http://127.0.0.1:$port";
	my $d = Mojo::Server::Daemon->new(listen => [$address], silent => 1, inactivity_timeout => 120, max_requests => 100000, backlog => 1024);
	return $d->max_clients(10000);
}

my %ORDER = (
	mount => sub { my ($path, $o) = @_; $mount{$path} = $o },
	unmount => sub { delete $mount{$_[0]} },
	kv1 => sub { $kv1{$_[0]} = $_[1] },
	kv2 => sub { push @{$kv2{$_[0]}}, { data => $_[1], created => _rfc3339(time) } },
	version => sub { my ($path, $n, $o) = @_; my $v = $kv2{$path}[$n - 1]; %$v = (%$v, %$o) },
	remove => sub { delete $kv1{$_[0]}; delete $kv2{$_[0]} },
	answer => sub { my ($p, $o) = @_; unshift @answers, { %$o, pattern => qr/$p/ } },
	answers_off => sub { @answers = () },
	token => sub { _new_token(@_); 1 },
	kill_token => sub { $token{$_[0]}{dead} = 1 if $token{$_[0]} },
	kill_tokens_named => sub { my ($p) = @_; $_->{dead} = 1 for grep { $_->{name} =~ /$p/ } values %token },
	kill_all_tokens => sub { $_->{dead} = 1 for values %token },
	deny => sub { my ($id, @p) = @_; $token{$id}{deny} = \@p },
	tokens => sub { return { map { $_ => { %{$token{$_}}, lives => _living($_) ? 1 : 0 } } keys %token } },
	approle => sub { $approle{$_[0]} = $_[1] },
	secret_id => sub { $approle{$_[0]}{secret_ids}{$_[1]} = $_[2] },
	userpass => sub { $userpass{$_[0]} = { %{$_[2] // {}}, password => $_[1] } },
	jwt => sub { $jwt{$_[0]} = $_[1] // {} },
	wrap => sub { my ($id, $o) = @_; $wrap{$id} = { path => $o->{path}, answer => { data => $o->{data}, auth => $o->{auth} } } },
	role => sub { $role{$_[0]} = $_[1] },
	revoke_lease => sub { $lease{$_[0]}{revoked} = 1 },
	invalid => sub { $invalid = $_[0] },
	leases => sub { return { map { $_ => { %{$lease{$_}}, live => _lease_lives($lease{$_}) ? 1 : 0 } } keys %lease } },
	log => sub { return [@log] },
	connections => sub { return scalar keys %{$daemon->{connections} // {}} },
);

sub _main {
	my ($ports, $cert, $key) = @_;
	require Mojo::IOLoop;
	require Mojo::Server::Daemon;
	$loop = Mojo::IOLoop->singleton;
	%mount = ('secret/' => { type => 'kv', version => 2 }, 'kv1/' => { type => 'kv', version => 1 }, 'database/' => { type => 'database' },
		'pki/' => { type => 'pki' });
	my $port;
	my $up = sub {
		$daemon = _listen($port // 0, $cert, $key) if !$daemon;
		$daemon->unsubscribe('request')->on(request => sub { _request($_[1]) });
		$daemon->start;
		$port //= $daemon->ports->[0];
		$daemon->listen([$cert ? "https://127.0.0.1:$port?cert=$cert&key=$key&verify=0" : "http://127.0.0.1:$port"]);
	};
	$ORDER{down} = sub {
		$daemon->stop;
		$loop->remove($_) for keys %{$daemon->{connections} // {}};
		undef $daemon;
		return 1;
	};
	$ORDER{up} = sub { $up->(); return 1 };
	$up->();
	my $control = _listen(0);
	$control->unsubscribe('request')->on(request => sub {
		my ($d, $tx) = @_;
		my @results;
		my $ok = eval {
			for (@{$json->decode($tx->req->body)}) {
				my ($name, @args) = @$_;
				my $code = $ORDER{$name} // die "no order $name\n";
				my $r = $code->(@args);
				push @results, $name =~ /^(?:log|leases|tokens|connections)$/ ? $r : 1;
			}
			1;
		};
		_reply($tx, $ok ? 200 : 500, $ok ? \@results : "$@");
	});
	$control->start;
	open(my $f, '>', "$ports.new") or die "$ports: $!\n";
	print $f "$port ", $control->ports->[0], "\n";
	close $f;
	rename "$ports.new", $ports or die "$ports: $!\n";
	$loop->start;
}

_main(@ARGV) unless caller;

1;
