# The verbs check and render, usage errors.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

my $cfs = program();
my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "user=rw\npassword=CANARY1\n");
spew("$src/orders.properties", "# c\nname=orders\nconnection.user=\${file:$S:user}\nconnection.password=\${file:$S:password}\n");
spew("$src/pay.json", qq({"name":"pay","config":{"u":"\${file:$S:user}"}}));

# check
my $r = run($cfs, 'check', $src);
is($r->{status}, 0, 'check of a good directory: 0') or diag $r->{err};
is($r->{err}, '', '… nothing to say');
like($r->{out}, qr/\b2\b/, '… a summary');
$r = run($cfs, 'check', '--online', $src);
is($r->{status}, 0, 'check --online: 0') or diag $r->{err};
unlike($r->{out} . $r->{err}, qr/CANARY/, '… no value');
unlike($r->{out} . $r->{err}, qr/\r|\e/, '… no progress where there is no terminal');

spew("$src/bad.properties", "a=1\n# x\nb=\${file:$S:nokey}\nc=\${nosuch:p:k}\nd=\${file:$sec/none:k}\n");
spew("$src/worse.json", "{\"a\":1,\n\"b\":}\n");
spew("$src/escape.properties", "a=1\nb=\\u1\n");
$r = run($cfs, 'check', $src);
is($r->{status}, 1, 'check of what can\'t be parsed: 1');
like($r->{err}, qr/^worse\.json:2: /m, '… file and line');
like($r->{err}, qr/^escape\.properties:2: /m, '… of each');
like($r->{err}, qr/bad\.properties:4: c: .*nosuch/, '… a reference to a provider that is not configured');
unlike($r->{err}, qr/nokey/, '… but nothing is fetched');
$r = run($cfs, 'check', '--online', $src);
is($r->{status}, 1, 'check --online: 1');
like($r->{err}, qr/^bad\.properties:3: b: .*nokey/m, '… a key that is not there, with file, line and key');
like($r->{err}, qr/^bad\.properties:5: d: .*\Q$sec\E\/none/m, '… a file that is not there');
like($r->{err}, qr/^worse\.json:2: /m, '… and what can\'t be parsed');
unlike($r->{out} . $r->{err}, qr/CANARY/, '… no value');
is(run($cfs, 'check', '--online', $src, 'orders')->{status}, 0, 'check of one, without its suffix: 0');
is(run($cfs, 'check', '--online', $src, 'orders.properties', 'pay')->{status}, 0, '… of two');
is(run($cfs, 'check', '--online', $src, 'bad')->{status}, 1, '… of a bad one: 1');
$r = run($cfs, 'check', $src, 'nobody');
is($r->{status}, 1, '… of one that there is not: 1');
like($r->{err}, qr/nobody/, '… says so');
SKIP: {
	my $script = find_tool('script') or skip 'script is not installed', 1;
	$r = run($script, '-qec', "'$cfs' check --online '$src'", '/dev/null');
	like($r->{out}, qr/worse\.json:2/, 'on a terminal too');
}

# render
$r = run($cfs, 'render', $src, 'orders');
is($r->{status}, 0, 'render: 0') or diag $r->{err};
is($r->{out}, "# c\nname=orders\nconnection.user=rw\nconnection.password=CANARY1\n", '… the resolved config');
is($r->{err}, '', '… and nothing else');
is(run($cfs, 'render', $src, 'pay.json')->{out}, qq({"name":"pay","config":{"u":"rw"}}), '… JSON, with its suffix');
$r = run($cfs, 'render', $src, 'bad');
is($r->{status}, 1, 'render of a broken one: 1');
is($r->{out}, '', '… nothing on standard output');
like($r->{err}, qr/bad\.properties.*(?:nokey|none)/, '… the reason on standard error');
is(run($cfs, 'render', $src, 'nobody')->{status}, 1, 'render of one that there is not: 1');
is(run($cfs, 'render', '-s', 'connectfs.unresolved=keep', $src, 'orders')->{status}, 0, 'render -s');
spew("$src/twin.properties", "a=1\n");
spew("$src/twin.json", qq({"a":"2"}));
$r = run($cfs, 'render', $src, 'twin');
is($r->{status}, 1, 'a name without suffix that two have: 1');
like($r->{err}, qr/twin\.json.*twin\.properties|twin\.properties.*twin\.json|ambiguous|more than one|both/i, '… says so');
is(run($cfs, 'render', $src, 'twin.json')->{out}, qq({"a":"2"}), '… with its suffix it is clear');

# render as somebody without any privilege, and without another process
SKIP: {
	my $strace = find_tool('strace') or skip 'strace is not installed', 2;
	$r = run($strace, '-f', '-qq', '-e', 'trace=fork,vfork,clone,clone3,execve,mount,unshare,setuid', '-o', "$sec/trace", $cfs, 'render', $src, 'orders', { timeout => 60 });
	skip 'strace does not work here: ' . $r->{err}, 2 if $r->{err} =~ /ptrace|PTRACE/;
	like($r->{out}, qr/CANARY1/, 'render under strace');
	# (undecoded where strace may not read the memory of what can't be dumped)
	my @calls = grep { !/CLONE_THREAD|clone3\(0x/ && !/execve\("\Q$cfs\E"/ } split /\n/, slurp("$sec/trace");
	is(scalar(grep { /(?:fork|clone3?|execve|mount|unshare|setuid)\(/ } @calls), 0, '… starts no other process and takes no privilege') or diag join "\n", @calls;
}

# A settings file; a worker's file as it is
settings_file("$sec/worker.properties", 'bootstrap.servers' => 'k:9092', 'config.providers' => 'file',
	'config.providers.file.class' => 'org.apache.kafka.common.config.provider.FileConfigProvider', 'connectfs.store.directory' => $src);
is(run($cfs, 'render', "$sec/worker.properties", 'orders')->{status}, 0, "a Connect worker's file as SOURCE");
settings_file("$sec/none.properties", 'connectfs.store.directory' => $src);
is(run($cfs, 'render', "$sec/none.properties", 'orders')->{out}, slurp("$src/orders.properties"), 'without config.providers there are none, as in Kafka');
is(run($cfs, 'render', '-s', "connectfs.store.directory=" . basename($src), "$sec/none.properties", 'orders', { dir => dirname($src) })->{status}, 0,
	'a relative directory on the command line begins at the current one');

# Wrong usage
for my $c (
	[[], qr/./], [[$src], qr/./], [['--nonsense'], qr/nonsense/], [['check'], qr/./], [['check', '--nonsense', $src], qr/nonsense/],
	[['render'], qr/./], [['render', $src], qr/./], [['render', $src, 'a', 'b'], qr/./], [['status'], qr/./], [['refresh'], qr/./],
	[['status', $src], qr/\Q$src\E/], [['refresh', $src], qr/\Q$src\E/], [['status', "$src/none"], qr/none/],
	[['check', "$src/none"], qr/none/], [['render', "$src/none", 'x'], qr/none/],
	[['check', '-s', 'novalue', $src], qr/novalue/], [['check', '-s', 'connectfs.nonsense=1', $src], qr/connectfs\.nonsense/],
	[['a', 'b', 'c'], qr/./], [['status', '--watch', $src], qr/\Q$src\E/],
) {
	my ($args, $pattern) = @$c;
	$r = run($cfs, @$args, { timeout => 15 });
	my $say = join ' ', map { s{^\Q$src\E}{SOURCE}r } @$args;
	is($r->{status}, 2, "connectfs $say: exit status 2");
	like($r->{err}, $pattern, '… with a sentence on standard error');
	is($r->{out}, '', '… nothing on standard output');
}
# Reserved words
for my $verb (qw(restart)) {
	$r = run($cfs, $verb, $src, { timeout => 15 });
	is($r->{status}, 2, "$verb belongs to later: exit status 2");
}
$r = run($cfs, '--version');
is($r->{status}, 0, '--version: 0');
like($r->{out}, qr/^connectfs \d+\.\d+/, '… says which');
$r = run($cfs, '--help');
is($r->{status}, 0, '--help: 0');
like($r->{out}, qr/check.*render.*status.*refresh/s, '… names the verbs');
is(run('sh', '-c', '"$0" render "$1" orders >/dev/full', $cfs, $src)->{status} != 0, 1, 'a full disk is told') if -c '/dev/full';

done_testing;
