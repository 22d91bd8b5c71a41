# Reading: what differs from the source is just the resolved values (done-when 2 of the issue).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/db.properties";
spew($S, <<'E');
user=orders_rw
password=s3cr\u00e9t #!=:\\x
multi=line one\nline two\ttab
lead=\ \ two before
astral=\ud83d\ude00
empty=
trail=two after \u0020
quote="a\\b"/c
ref=${file:/etc/hostname:x}
E
my $stored = <<"E";
# Orders connector: the comment has \${file:$S:user} and stays
! another
name=orders
connector.class = io.confluent.connect.jdbc.JdbcSourceConnector

connection.url=jdbc:postgresql://db:5432/orders?user=\${file:$S:user}&ssl=true
  connection.password : \${file:$S:password}
note = plain \\u00e9 text \\
    continued \\
  twice
key\\ with\\ space\tvalue
\${file:$S:user}=keys are never scanned
empty.one=
topics=\${unknown:a:b},\${file},\${}
twice=\${file:$S:user}/\${file:$S:user}
multi=\${file:$S:multi}
lead=\${file:$S:lead}
lead2=x\${file:$S:lead}
astral=\${file:$S:astral}
empty=\${file:$S:empty}
trail=\${file:$S:trail}
not.again=\${file:$S:ref}
cont=\${file:$S:us\\
   er}!
last=no newline at the end
E
chomp $stored;
spew("$src/orders.properties", $stored);
spew("$src/plain.properties", "# nothing here\r\na=1\r\n\r\nb = caf\xe9 \\\r\n  x\r\n");
spew("$src/empty.properties", '');
spew("$src/crlf.properties", "a=\${file:$S:user}\r\nb=2\r\n");

my $m = mount_fs(source => $src);
my $got = slurp($m->path('orders.properties'));
my @a = split /\n/, $stored, -1;
my @b = split /\n/, $got, -1;

# Line by line (cont= spans two lines in the source)
my %expect = (
	'connection.url=' => 'connection.url=jdbc:postgresql://db:5432/orders?user=orders_rw&ssl=true',
	'  connection.password : ' => '  connection.password : s3cr\\u00E9t #!=:\\\\x',
	'twice=' => 'twice=orders_rw/orders_rw',
	'multi=' => 'multi=line one\\nline two\\ttab',
	'lead=' => 'lead=\\  two before',
	'lead2=' => 'lead2=x  two before',
	'astral=' => 'astral=\\uD83D\\uDE00',
	'empty=' => 'empty=',
	'trail=' => 'trail=two after  ',
	'not.again=' => 'not.again=${file:/etc/hostname:x}',
	'cont=' => 'cont=orders_rw!',
);
my ($i, $j, $differ) = (0, 0, 0);
while ($i < @a) {
	my ($key) = grep { index($a[$i], $_) == 0 } sort { length $b <=> length $a } keys %expect;
	if (defined $key) {
		(my $g = $b[$j] // '') =~ s/(\\u[0-9a-fA-F]{4})/\\u@{[uc substr $1, 2]}/g;
		is(canonical($g), canonical($expect{$key}), "line of $key: resolved");
		$i++ if $key eq 'cont=';
		$differ++;
	} elsif ($a[$i] ne ($b[$j] // '')) {
		fail("line " . ($i + 1) . " is as stored");
		diag("stored: $a[$i]\nread:   " . ($b[$j] // '(none)'));
	}
	$i++;
	$j++;
}
is($j, scalar @b, 'no line more');
is($differ, scalar keys %expect, 'all lines with references were there');
ok($got =~ /^[\x00-\x7f]*$/, 'what is written anew is ASCII');

# The writer is free to escape more than it must: compare what the value loads to
sub canonical {
	my ($line) = @_;
	my ($key, $value) = $line =~ /^((?:\\.|[^\\=:])*?\s*[=:]\s*)(.*)$/s or return $line;
	$value =~ s{\\(u([0-9A-Fa-f]{4})|.)}{defined $2 ? sprintf('<%04X>', hex $2) : $1 eq 'n' ? '<000A>' : $1 eq 't' ? '<0009>' : $1 eq 'r' ? '<000D>' : $1}ges;
	return "$key$value";
}

read_is($m->path('plain.properties'), slurp("$src/plain.properties"), 'without a reference: byte for byte, ISO-8859-1 and CR LF too');
read_is($m->path('empty.properties'), '', 'an empty one is empty');
read_is($m->path('crlf.properties'), "a=orders_rw\r\nb=2\r\n", 'line ends are kept');

SKIP: {
	need_diff();
	my $r = run(find_tool('diff'), "$src/orders.properties", $m->path('orders.properties'));
	is($r->{status}, 1, 'diff: they differ');
	my @removed = $r->{out} =~ /^< (.*)$/mg;
	my @without = grep { !/\$\{file:/ && !/^\s+er\}!$/ } @removed;
	is_deeply(\@without, [], '… in nothing but lines with references');
	$r = run(find_tool('diff'), "$src/plain.properties", $m->path('plain.properties'));
	is($r->{status}, 0, 'diff: no reference, no difference');
}
sub need_diff { skip 'diff is not installed', 3 unless find_tool('diff') }

SKIP: {
	my @java = java_helper('LoadProperties', $m->path('orders.properties'), qw(stream reader bytes));
	skip 'java is not installed', 4 unless @java;
	my $r = run(@java, { timeout => 60 });
	is($r->{status}, 0, 'Java loads it') or diag $r->{err};
	my ($stream, $reader, $bytes) = $r->{out} =~ /^stream\n(.*)^reader\n(.*)^bytes (.*)\n/ms;
	is($stream, $reader, 'Properties.load gives the same by InputStream (ISO-8859-1) and Reader (UTF-8)');
	my %p = map { map { pack('n*', map { hex } /(....)/g) } split /=/, $_, 2 } split /\n/, $reader // '';
	my %text = map { my ($k, $v) = ($_, $p{$_}); map { require Encode; Encode::decode('UTF-16BE', $_) } $k, $v } keys %p;
	is_deeply({ map { $_ => $text{$_} } qw(connection.password multi lead lead2 astral empty trail cont) }, {
		'connection.password' => "s3cr\x{e9}t #!=:\\x", multi => "line one\nline two\ttab", lead => '  two before',
		lead2 => 'x  two before', astral => "\x{1f600}", empty => '', trail => 'two after  ', cont => 'orders_rw!',
	}, '… with the values of the secret');
	is($bytes, length($got) . ' ' . length($got), 'Files.readAllBytes and File.length agree');
}

done_testing;
