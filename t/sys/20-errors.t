# Each failure is an errno that says what happened, a sentence in .error, one line in the log; the others are undisturbed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "user=rw\npassword=CANARY\n");
spew("$sec/malformed.properties", "user=rw\nbad=\\u12x4\n");
spew("$sec/latin1.properties", "user=caf\xe9\n");
mkdir "$sec/adir";
POSIX::mkfifo("$sec/fifo", 0666);
my %stored = (
	ok => "name=ok\nuser=\${file:$S:user}\n",
	nokey => "name=nokey\nuser=\${file:$S:user}\nx.y=\${file:$S:nosuchkey}\n",
	nofile => "x=\${file:$sec/none.properties:k}\n",
	malformed => "x=\${file:$sec/malformed.properties:user}\n",
	latin1 => "x=\${file:$sec/latin1.properties:user}\n",
	isdir => "x=\${file:$sec/adir:user}\n",
	fifo => "x=\${file:$sec/fifo:user}\n",
	loop => "x=\${file:$sec/l1:user}\n",
	literal => "a=\${nosuch:p:k}\nb=\${nosuch:k} \${} \${x}\n",
	mixed => "a=\${nosuch:p:k}\nb=\${file:$S:user}\n",
	envpath => "x=\${env:somepath:HOME}\n",
);
symlink 'l2', "$sec/l1";
symlink 'l1', "$sec/l2";
spew("$src/$_.properties", $stored{$_}) for keys %stored;
spew("$src/badjson.json", qq({"name":"badjson",\n "a" "b"}\n));
spew("$src/dup.json", qq({"a":"1","a":"2"}\n));
spew("$src/badescape.properties", "ok=1\nx=\\u00zz\n");

my $m = mount_fs(source => $src);
my $log = sub { my ($what) = @_; return scalar $m->log_lines(qr/\Q$what\E/) };

read_is($m->path('ok.properties'), "name=ok\nuser=rw\n", 'a good one');

my @cases = (
	# file, errno, what the sentence must name
	['nokey.properties', 'ENOKEY', [qr/nosuchkey/, qr/\Q$S\E/, qr/\bfile\b/, qr/x\.y/]],
	['nofile.properties', 'ENOKEY', [qr/\Q$sec\E\/none\.properties/, qr/\bfile\b/]],
	['malformed.properties', 'EIO', [qr/\Q$sec\E\/malformed\.properties/]],
	['latin1.properties', 'EIO', [qr/\Q$sec\E\/latin1\.properties/, qr/UTF-8/i]],
	['isdir.properties', [qw(EIO ENOKEY)], [qr/\Q$sec\E\/adir/]],
	['fifo.properties', [qw(EIO ENOKEY)], [qr/\Q$sec\E\/fifo/]],
	['loop.properties', [qw(EIO ENOKEY)], [qr/\Q$sec\E\/l1/]],
	['envpath.properties', 'EIO', [qr/somepath|path/i]],
	['badjson.json', 'EIO', [qr/badjson\.json:2/]],
	['dup.json', 'EIO', [qr/dup\.json/, qr/"?a"?/]],
	['badescape.properties', 'EIO', [qr/badescape\.properties:2/]],
);
my %text = (ENOKEY => 'Required key not available', EIO => 'Input/output error');
for my $c (@cases) {
	my ($name, $errno, $patterns) = @$c;
	my $t0 = time;
	my ($bytes, $got) = $m->cat($name);
	ok(!defined $bytes, "$name can't be read");
	is_errno($got, $errno, '… with the right errno');
	cmp_ok(time - $t0, '<', patience(5), '… at once');
	$m->cat($name) for 1 .. 4;
	my $r = run('cat', $m->path($name));
	my $say = $text{ref $errno ? errno_name($got) : $errno};
	like($r->{err}, qr/\Q$say\E/, "… cat says: $say");
	my $why = $m->attr($name, 'error') // '';
	like($why, $_, '… .error names it') for @$patterns;
	unlike($why, qr/CANARY|\n/, '… in one line, without a value');
	is($m->attr($name, 'state'), 'failed', '… and .state is failed');
	my $st = $m->connector($name);
	is($st->{state}, 'failed', '… as in the status');
	is($st->{error}, $why, '… with the sentence');
	is($st->{errno}, errno_name($got), '… and the errno');
	(my $base = $name) =~ s/\.\w+$//;
	my @lines = $m->log_lines(qr/\Q$name\E|connector="?\Q$base\E\b/);
	is(scalar @lines, 1, '… one line in the log') or diag join "\n", @lines;
	like($lines[0] // '', qr/level=(?:error|warn)/, '… as a warning or an error');
	is($m->stat($name)->{size}, 0, '… stat answers, size 0');
}
read_is($m->path('literal.properties'), $stored{literal}, 'an unknown provider stays literal, as in Kafka');
is($m->attr('literal.properties', 'state'), 'ok', '… which is no failure');
is_deeply($m->connector('literal.properties')->{unknown_providers}, ['nosuch'], '… and stands in the status');
read_is($m->path('mixed.properties'), "a=\${nosuch:p:k}\nb=rw\n", '… beside resolved ones');
read_is($m->path('ok.properties'), "name=ok\nuser=rw\n", 'the good one is undisturbed');
is($m->attr('ok.properties', 'error'), undef, '… and has no .error');

my $s = $m->status;
is($s->{connectors_by_state}{failed}, scalar @cases, 'the status counts the failed ones');
my $r = run(program(), 'status', $m->dir);
is($r->{status}, 1, 'connectfs status: 1');
like($r->{out}, qr/nokey\.properties/, '… and the table shows them');
unlike($m->log . $r->{out} . $r->{err}, qr/CANARY/, 'no value anywhere');

# A secret that may not be read
SKIP: {
	skip 'root may read everything', 3 if is_root();
	spew("$sec/closed.properties", "k=v\n");
	chmod 0, "$sec/closed.properties";
	spew("$src/closed.properties", "x=\${file:$sec/closed.properties:k}\n");
	eventually(sub { -e $m->path('closed.properties') }, 5);
	my (undef, $errno) = $m->cat('closed.properties');
	is_errno($errno, 'EKEYREJECTED', 'a secret file without permission');
	like($m->attr('closed.properties', 'error') // '', qr/closed\.properties.*[Pp]ermission/, '… .error says so');
	chmod 0644, "$sec/closed.properties";
	eventually(sub { defined(($m->cat('closed.properties'))[0]) }, 5, '… chmod heals it');
}

# connectfs.unresolved=keep: Kafka's behaviour to the letter
my $k = mount_fs(source => $src, settings => { 'connectfs.unresolved' => 'keep' });
read_is($k->path('nokey.properties'), "name=nokey\nuser=rw\nx.y=\${file:$S:nosuchkey}\n", 'unresolved=keep: a missing key stays literal');
is_errno(($k->cat('nofile.properties'))[1], 'ENOKEY', '… a missing file is an error there too');
append($S, "nosuchkey=there now\n");
eventually(sub { (($k->cat('nokey.properties'))[0] // '') eq "name=nokey\nuser=rw\nx.y=there now\n" }, 3, '… and is filled in when it comes');

# A class that this version lacks: an error of the connectors that refer to it
my $d = tmp_dir();
mkdir "$d/stored";
spew("$d/stored/uses.properties", "a=\${kms:p:k}\n");
spew("$d/stored/not.properties", "a=\${file:$S:user}\n");
settings_file("$d/w.properties", 'config.providers' => 'kms,file', 'config.providers.kms.class' => 'com.example.KmsConfigProvider',
	'config.providers.file.class' => 'org.apache.kafka.common.config.provider.FileConfigProvider',
	'connectfs.store.directory' => "$d/stored");
my $c = mount_fs(source => "$d/w.properties");
is_errno(($c->cat('uses.properties'))[1], 'EIO', 'a provider class that there is not: EIO for who refers to it');
like($c->attr('uses.properties', 'error'), qr/com\.example\.KmsConfigProvider/, '… with its name');
read_is($c->path('not.properties'), "a=rw\n", '… the others are well');
my ($p) = grep { $_->{name} eq 'kms' } @{$c->status->{providers}};
ok($p && !$p->{known}, '… and the status says that it is not known');

done_testing;
