# Stored configs in JSON keep their form and order.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/db.properties";
spew($S, "user=rw\npassword=a\"b\\\\c\\n\\u00e9\n");

my $flat = <<"E";
{
  "name" : "flat",
  "tasks.max": 3, "flag":true,
	"user": "\${file:$S:user}",
  "b": "x\${file:$S:password}y",
  "slash": "a\\/b \\u00e9",
  "a": "\${nosuch:p:k}"
}
E
my $request = qq({"config":{"z":"\${file:$S:user}","connector.class":"X","a":"1"},"name":"request"});
my $info = qq({"name":"info","config":{"connector.class":"X","user":"\${file:$S:user}"},\n "tasks":[{"connector":"info","task":0}],"type":"sink"}\n);
spew("$src/flat.json", $flat);
spew("$src/request.json", $request);
spew("$src/info.json", $info);
spew("$src/plain.json", qq({ "name":"plain" ,"x":"y"}));

my $m = mount_fs(source => $src);
my $got = slurp($m->path('flat.json'));
my @a = split /\n/, $flat;
my @b = split /\n/, $got;
is(scalar @b, scalar @a, 'as many lines');
for my $i (0 .. $#a) {
	next if $a[$i] =~ /\$\{file/;
	is($b[$i], $a[$i], 'line ' . ($i + 1) . ' is as stored');
}
like($b[3], qr/^\t"user": "rw",$/, 'a reference is resolved in its place');
my $d = JSON::PP->new->utf8->decode($got);
is($d->{b}, "xa\"b\\c\n\x{e9}y", 'what a secret holds is escaped');
is($d->{'tasks.max'}, 3, 'a number stays');

(my $want = $request) =~ s/\$\{file:[^}]*\}/rw/;
read_is($m->path('request.json'), $want, 'CreateConnectorRequest keeps its form and order');
($want = $info) =~ s/\$\{file:[^}]*\}/rw/;
read_is($m->path('info.json'), $want, 'ConnectorInfo keeps its form and order');
read_is($m->path('plain.json'), slurp("$src/plain.json"), 'without a reference: byte for byte');

SKIP: {
	my $node = find_tool('node') or skip 'node is not installed', 1;
	my $r = run($node, '-e', 'console.log(JSON.parse(require("fs").readFileSync(process.argv[1])).b.length)', $m->path('flat.json'));
	is($r->{out}, "9\n", 'Node parses it') or diag $r->{err};
}

done_testing;
