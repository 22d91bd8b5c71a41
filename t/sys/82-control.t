# .connectfs: status.json, metrics, version, refresh; the attributes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

my $s = slow_setup({ 'a.properties' => "a=\${slow:one:k}\n", 'b.properties' => "a=\${slow:two:k}\n", 'bad.properties' => "a=\${slow:secretpath:k}\n",
	'idle.properties' => "a=\${slow:three:k}\n" });
slow_set($s, $_, "k=$_") for qw(one two three);
slow_set($s, 'secretpath', 'error=EKEYREJECTED', 'text=sentence-of-the-error');
my $m = mount_fs(slow => 1, source => $s->{settings});
slurp($m->path($_)) for qw(a.properties b.properties);
$m->cat('bad.properties') for 1 .. 2;

# Modes and sizes
for (['status.json', '0444'], ['metrics', '0444'], ['version', '0444'], ['refresh', '0200']) {
	my ($name, $mode) = @$_;
	my $st = stx($m->control($name));
	is(sprintf('%04o', $st->{mode}), $mode, "$name: mode $mode");
	is($st->{size}, 0, '… size 0');
	is($st->{type}, 0100000, '… a regular file');
}
my $v = slurp($m->control('version'));
like($v, qr/^connectfs \d+\.\d+\S*\n$/, 'version');
is(run(program(), '--version')->{out}, $v, '… the same as --version');
for my $tool (['cat'], ['grep', ''], ['head', '-c', '100000'], ['tail', '-n', '+1']) {
	find_tool($tool->[0]) or next;
	my $r = run(@$tool, $m->control('status.json'));
	ok(eval { JSON::PP->new->utf8->decode($r->{out}) }, "status.json by $tool->[0] is whole");
}
SKIP: {
	my $py = find_tool('python3') or skip 'python3 is not installed', 1;
	my $r = run($py, '-c', 'import json,sys; print(json.load(open(sys.argv[1]))["worker"])', $m->control('status.json'));
	is($r->{out}, $m->pid('worker') . "\n", '… by Python');
}
SKIP: {
	my $node = find_tool('node') or skip 'node is not installed', 1;
	my $r = run($node, '-e', 'console.log(JSON.parse(require("fs").readFileSync(process.argv[1])).worker)', $m->control('status.json'));
	is($r->{out}, $m->pid('worker') . "\n", '… by Node');
}

# Content is fixed at open
sysopen(my $f, $m->control('metrics'), O_RDONLY) or die;
sysread($f, my $head, 64);
slurp($m->path('a.properties')) for 1 .. 5;
my $rest = '';
1 while sysread($f, $rest, 100, length $rest);
sysseek($f, 0, 0);
my $again = '';
1 while sysread($f, $again, 65536, length $again);
is("$head$rest", $again, 'the content is fixed at open, read in pieces or anew');
isnt(slurp($m->control('metrics')), $again, '… a new open tells the new one');

# Nothing changes it
for my $name (qw(status.json metrics version)) {
	ok(!sysopen(my $w, $m->control($name), O_WRONLY), "$name can't be written");
	like(errno_name($! + 0), qr/^(?:EACCES|EROFS|EPERM)$/, '… ' . errno_name($! + 0));
}
ok(!unlink($m->control('refresh')), "refresh can't be removed");
ok(!(open my $nf, '>', $m->control('new')), 'nothing can be made there');
is((slurp_errno($m->control('refresh')))[1] && 1, 1, "refresh can't be read") unless is_root();

# Metrics
my $metrics = slurp($m->control('metrics'));
SKIP: {
	my $promtool = find_tool('promtool') or skip 'promtool is not installed', 2;
	my $r = run($promtool, 'check', 'metrics', { stdin => $metrics });
	is($r->{status}, 0, 'promtool check metrics') or diag $r->{out} . $r->{err};
	is($r->{out} . $r->{err}, '', '… without a remark');
}
unlike($metrics, qr/secretpath|sentence|\Q$s->{dir}\E|\.properties/, 'metrics have neither paths nor error sentences');
my %family = map { $_ => 1 } $metrics =~ /^# TYPE (\S+)/mg;
my %help = map { $_ => 1 } $metrics =~ /^# HELP (\S+)/mg;
is_deeply(\%help, \%family, '… each with HELP and TYPE');
is(scalar(grep { !/^connectfs_|^process_/ } keys %family), 0, '… named connectfs_*') or diag join ' ', keys %family;
like($metrics, qr/^\S*read\S*_total(?:\{[^}]*\})? \d/m, 'reads');
like($metrics, qr/^\S*open\S*_bucket\{le="\+Inf"\} \d/m, 'the histogram of open latency');
like($metrics, qr/^\S*fetches_total\{[^}]*provider="slow"[^}]*\} (\d+)/m, 'fetches by provider');
like($metrics, qr/^\S*errors_total\{[^}]*provider="slow"[^}]*\} (\d+)/m, 'errors by provider');
like($metrics, qr/^\S*rotations_total \d/m, 'rotations');
like($metrics, qr/^\S*connectors\{[^}]*state="ok"[^}]*\} 2$/m, 'connectors by state: ok');
like($metrics, qr/^\S*connectors\{[^}]*state="failed"[^}]*\} 1$/m, '… failed');
like($metrics, qr/^\S*connectors\{[^}]*state="idle"[^}]*\} 1$/m, '… idle');
like($metrics, qr/^\S*oldest\S* [\d.]+(?:e[+-]?\d+)?$/m, 'the age of the oldest secret');
like($metrics, qr/^\S*locked\S* [\d.]+(?:e[+-]?\d+)?$/m, 'bytes locked');
my ($count, $inf) = map { $metrics =~ $_ ? $1 : -1 } qr/^\S*open\S*_count (\d+)/m, qr/^\S*open\S*_bucket\{le="\+Inf"\} (\d+)/m;
is($inf, $count, 'the histogram adds up');
cmp_ok($count, '>=', 8, '… and counts opens');

# refresh
sub refresh { my ($text) = @_; sysopen(my $w, $m->control('refresh'), O_WRONLY) or return 0; my $n = syswrite($w, $text); return defined $n && close $w }
my %n = map { $_ => slow_fetches($s, $_) } qw(one two three);
ok(refresh("a.properties\n"), 'a name is written to refresh');
ok(eventually(sub { slow_fetches($s, 'one') == $n{one} + 1 }, 5), '… its secret is fetched');
sleep 0.2;
is(slow_fetches($s, 'two'), $n{two}, '… the others not');
ok(refresh("a\nb\n"), 'two names, without their suffix');
ok(eventually(sub { slow_fetches($s, 'one') == $n{one} + 2 && slow_fetches($s, 'two') == $n{two} + 1 }, 5), '… both are fetched');
ok(refresh("*\n"), '*');
ok(eventually(sub { slow_fetches($s, 'one') == $n{one} + 3 && slow_fetches($s, 'two') == $n{two} + 2 }, 5), '… all that have been opened are fetched');
sleep 0.2;
is(slow_fetches($s, 'three'), 0, '… but not what nobody has opened');
my $w = watch($m->path('a.properties'));
slow_set($s, 'one', 'k=new');
my $r = run('sh', '-c', 'echo a >"$1"', 'sh', $m->control('refresh'));
is($r->{status}, 0, 'by the shell, which opens with O_TRUNC|O_CREAT') or diag $r->{err};
ok($w->await('MODIFY', 5), '… and what has changed rotates');
read_is($m->path('a.properties'), "a=new\n", '… is read');
$r = run(program(), 'refresh', $m->dir, 'b');
is($r->{status}, 0, 'connectfs refresh');
ok(eventually(sub { slow_fetches($s, 'two') == $n{two} + 3 }, 5), '… fetches');
# It also ends a back-off
slow_set($s, 'secretpath', 'k=well');
run(program(), 'refresh', $m->dir, 'bad');
ok(eventually(sub { $m->attr('bad.properties', 'state') eq 'ok' }, 5), 'refresh of a failed one heals it');

# Attributes
my $f2 = $m->path('a.properties');
is(scalar(grep { !/^user\.connectfs\.(?:state|error|version|rotated|fetched|expires|secrets)$/ } @{xattr_names($f2)}), 0, 'listxattr: only ours');
my %has = map { $_ => 1 } @{xattr_names($f2)};
ok($has{"user.connectfs.$_"}, "… $_") for qw(state version rotated fetched secrets);
ok(!$has{"user.connectfs.$_"}, "… no $_") for qw(error expires);
is($m->attr('a.properties', 'secrets'), 'slow:one', '.secrets');
like($m->attr('a.properties', $_), qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z$/, ".$_ is RFC 3339") for qw(rotated fetched);
is(xattr($f2, 'user.connectfs.error'), undef, 'one that has no value now');
is_errno($! + 0, 'ENODATA', '… ENODATA');
for my $name ('user.other', 'security.selinux', 'system.posix_acl_access', 'security.capability', 'user.connectfs.nonsense', 'trusted.x') {
	next if $name =~ /^trusted/ && !is_root();
	is(xattr($f2, $name), undef, "$name is none of ours");
	is_errno($! + 0, $name =~ /nonsense/ ? [qw(EOPNOTSUPP ENODATA)] : 'EOPNOTSUPP', '… EOPNOTSUPP');
}
SKIP: {
	my $getfattr = find_tool('getfattr') or skip 'getfattr is not installed', 1;
	my $r = run($getfattr, '--absolute-names', '-d', $f2);
	like($r->{out}, qr/^user\.connectfs\.state="ok"$/m, 'getfattr -d');
}

done_testing;
