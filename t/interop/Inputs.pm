# The inputs of the comparison with Kafka: what t/data has, and as many more as are asked for, drawn
# from nasty alphabets by a seed.
#
# A record is a hash: kind (T, P, R, J, V: see vectors.c), and by kind
#     table    [[provider, path, key, value]…]; a path "*" is any; value undef is null
#     entries  [[key, value]…]
#     bytes    a byte string
#     class, params [[name, value]…], path, keys [key…]
# and for rows of t/data: from (which row), expected (an answer) or expected_error.
# Text is kept as Perl strings of UTF-16 code units, so that surrogates may stand alone.
package Inputs;

use strict;
use warnings;
no warnings 'surrogate';
use JSON::PP ();
use Encode   ();
use File::Path qw(make_path);

# Words of a record

sub pair { my ($c) = @_; return chr(0xd800 + ($c >> 10)) . chr(0xdc00 + ($c & 0x3ff)) }

sub units { # characters to code units
    my ($text) = @_;
    return if !defined $text;
    $text =~ s/([^\x{0}-\x{ffff}])/pair(ord($1) - 0x10000)/ge;
    return $text;
}

sub digits {
    my ($text) = @_;
    return '~' if !defined $text;
    return $text eq '' ? '-' : join '', map { sprintf '%04x', ord } split //, $text;
}

sub hex_bytes { return $_[0] eq '' ? '-' : unpack 'H*', $_[0] }

sub table_words {
    my ($table) = @_;
    my @words = scalar @$table;
    for my $row (@$table) {
        my ($provider, $path, $key, $value) = @$row;
        push @words, digits($provider), $path eq '*' ? '*' : digits($path), digits($key), digits($value);
    }
    return @words;
}

# The line of a record; rendered is vectors' answer to an R, for Kafka's side.
sub line {
    my ($id, $r, $rendered) = @_;
    my @words;
    if ($r->{kind} eq 'T') {
        my @entries = @{ $r->{entries} };
        @words = (table_words($r->{table}), scalar @entries, map { digits($_) } map { @$_ } @entries);
    } elsif ($r->{kind} eq 'V') {
        @words = (
            digits($r->{class}), scalar @{ $r->{params} }, (map { digits($_) } map { @$_ } @{ $r->{params} }),
            digits($r->{path}), scalar @{ $r->{keys} }, map { digits($_) } @{ $r->{keys} }
        );
    } else {
        @words = (hex_bytes($r->{bytes}), $r->{kind} eq 'R' ? table_words($r->{table}) : ());
        push @words, $rendered if defined $rendered;
    }
    return join(' ', $id, $r->{kind}, @words);
}

sub list_answer {
    my @lines = sort @_;
    return @lines ? join('', map { "$_;" } @lines) : '-';
}

sub map_answer {
    my ($map) = @_;
    return list_answer(map { digits(units($_)) . '=' . digits(units($map->{$_})) } keys %$map);
}

# t/data

sub read_json {
    my ($file) = @_;
    open my $in, '<:raw', $file or die "$file: $!\n";
    local $/;
    return JSON::PP->new->utf8->decode(scalar <$in>);
}

sub row_bytes { # of an input text in UTF-8, or of hexadecimal digits
    my ($row) = @_;
    return exists $row->{hex} ? pack('H*', $row->{hex}) : Encode::encode('UTF-8', $row->{input});
}

sub data_table {
    my ($providers) = @_;
    my @table;
    for my $name (sort keys %$providers) {
        for my $path (sort keys %{ $providers->{$name} }) {
            my $values = $providers->{$name}{$path};
            push @table, map { [map { scalar units($_) } $name, $path, $_, $values->{$_}] }
                sort keys %$values;
        }
    }
    return \@table;
}

sub transform_rows {
    my ($dir) = @_;
    my $providers = read_json("$dir/providers.json");
    my @records;
    for my $row (@{ read_json("$dir/transform.json") }) {
        my $map    = $row->{map} // { v => $row->{input} };
        my $result = $row->{map} ? $row->{result} : { v => $row->{output} };
        my @calls;
        for my $call (@{ $row->{calls} }) {
            my ($provider, $path) = map { digits(units($_)) } @$call{qw(provider path)};
            push @calls, map { "$provider,$path," . digits(units($_)) } @{ $call->{keys} };
        }
        push @records, {
            kind     => 'T',
            table    => data_table($providers->{ $row->{table} }),
            entries  => [map { [units($_), scalar units($map->{$_})] } sort keys %$map],
            expected => 'calls ' . list_answer(@calls) . ' values ' . map_answer($result),
        };
    }
    return @records;
}

sub reference_rows { # all providers known, so that each reference makes a call
    my ($dir) = @_;
    my @records;
    for my $row (@{ read_json("$dir/references.json") }) {
        my (%names, %calls);
        for my $ref (@{ $row->{references} }) {
            my ($provider, $path, $key) = map { units($_) } @$ref{qw(provider path key)};
            $names{$provider} = 1;
            $calls{ join ',', map { digits($_) } $provider, $path, $key } = 1;
        }
        my $input = exists $row->{hex} ? Encode::decode('UTF-8', pack('H*', $row->{hex})) : $row->{input};
        push @records, {
            kind     => 'T',
            table    => [map { [$_, '*', undef, undef] } sort keys %names],
            entries  => [['v', units($input)]],
            expected => 'calls ' . list_answer(keys %calls) . ' values ' . map_answer({ v => $input }),
        };
    }
    return @records;
}

sub properties_rows {
    my ($dir) = @_;
    return map {
        my $answer = $_->{error} ? 'err' : map_answer($_->{map});
        my $charset = $_->{charset} // '';
        +{
            kind     => 'P',
            bytes    => row_bytes($_),
            expected => $charset eq 'utf8' ? qr/\Autf8 \Q$answer\E latin1 /
            : $charset eq 'latin1' ? qr/ latin1 \Q$answer\E\z/
            : qr/\Autf8 \Q$answer\E latin1 \Q$answer\E\z/,
        };
    } @{ read_json("$dir/properties.json") };
}

sub json_rows {
    my ($dir) = @_;
    return map {
        my %r = (kind => 'J', bytes => row_bytes($_));
        if ($_->{error}) {
            $r{expected_error} = 1;
        } else {
            my $name = ($_->{form} eq 'request') ? digits(units($_->{name} // '')) . ' ' : '';
            $r{expected} = "$_->{form} $name" . map_answer($_->{map});
        }
        \%r;
    } @{ read_json("$dir/json.json") };
}

sub data {
    my ($dir) = @_;
    my %from = (
        'transform.json'  => [transform_rows($dir)],
        'references.json' => [reference_rows($dir)],
        'properties.json' => [properties_rows($dir)],
        'json.json'       => [json_rows($dir)],
    );
    my @records;
    for my $file (sort keys %from) {
        my $n = 0;
        push @records, map { $_->{from} = "$file, row " . ++$n; $_ } @{ $from{$file} };
    }
    return @records;
}

# Chance

sub one { return $_[rand @_] }
sub chance { return rand() < $_[0] }
sub some { # between min and max times what code makes
    my ($min, $max, $code) = @_;
    return join '', map { $code->() } 1 .. $min + int rand($max - $min + 1);
}

# T

my @PROVIDERS = ('test', 'other', '', ' test', '${test', "\x{e9}", 'a b', 'test\\');
my @PATHS     = ('', 'p', ' p ', 'p q', '/run/x.properties', '${test', "p\n", "\x{d83d}\x{de00}", "\x{d83d}");
my @KEYS      = (
    'k', 'k2', '', 'a:b', ':', ' k ', "nl\nk", 'k\\', '${test:p:k', "\x{2028}", "\0", "\x{de00}",
    'missing', 'nul'
);
my @NASTY = (
    "\x{d800}\x{dc00}", "\x{dbff}\x{dfff}", "\x{dbff}", "\x{dfff}",
    '$', '{', '}', ':', '\\', "\n", "\r", "\t", "\f", ' ', '=', '#', '!', 'u', '0', 'a', 'f', '${', '}', ':',
    "\r\n", "\x{e9}", "\x{d83d}\x{de00}", "\0", "\x{d83d}", "\x{de00}", "\x{feff}", "\x{85}", "\x{2028}",
    "\x{b}", "\x{a0}", '"',
    "\x{ff}", "\x{100}", "\x{7f}", "\x{1}", "\x{ffff}", '$1', '\\u0041', '  ', '\\\\', "'", ',', '[', '/'
);

sub text { my ($max) = @_; return some(0, $max, sub { one(@NASTY) }) }

sub reference {
    my $path = chance(0.7) ? one(@PATHS) . ':' : '';
    return '${' . one(@PROVIDERS, 'unk') . ':' . $path . one(@KEYS) . '}';
}

sub any_table {
    my @table;
    for (0 .. rand 12) {
        my $value = chance(0.1) ? undef : chance(0.2) ? reference() : text(6);
        push @table, [one(@PROVIDERS), chance(0.2) ? '*' : one(@PATHS), one(@KEYS[0 .. 11], 'nul'), $value];
    }
    return \@table;
}

sub any_transform {
    my %entries;
    for (0 .. rand 4) {
        my $value = some(0, 5, sub { chance(0.5) ? reference() : text(4) });
        $value = text(14) if chance(0.2);
        substr($value, rand length $value, 1) = one(@NASTY) if $value ne '' && chance(0.3);
        my $key = chance(0.5) ? 'key' . int rand 3 : chance(0.3) ? reference() : text(4);
        $entries{$key} = chance(0.03) ? undef : $value;
    }
    return { kind => 'T', table => any_table(), entries => [map { [$_, $entries{$_}] } sort keys %entries] };
}

# P

my @PLAIN = (
    'k', 'v', '=', ':', ' ', "\\", "\n", "\r", "\r\n", "\t", "\f", '#', '!', 'u', '0', 'a', 'F', '$', '{',
    '}', "\\\n", "\\\r\n", "\\\r", "\\\n  ", "\\\\", '  ', "\n\n", "\\t", "\\n", "\\u", "\\U", "\\b", "\0",
    "\x0b", 'k=v', '"'
);
my @UTF8 = map { pack 'H*', $_ } qw(c3a9 f09f9880 efbbbf c285 e280a8 c2a0 efbfbf f48fbfbf dfbf e0a080);
my @BROKEN = map { pack 'H*', $_ }
    qw(ff fe 80 c3 e282 f09f98 c080 c1bf e09fbf f08fbfbf eda080 edbfbf f4908080 f5808080);
my @UNITS = qw(0000 0009 000a 0020 003d 003a 0023 0041 005c 0085 00e9 00E9 2028 d83d de00 DE00 d800 dfff feff
    ffff fFfD);
my @BAD_ESCAPES = ('00g1', '004', '', '+041', ' 041', '0x41', "00\\\n41");

sub escape {
    return sprintf "\\u%04x\\u%04x", 0xd800 + rand 0x400, 0xdc00 + rand 0x400 if chance(0.1);
    return "\\u" . (chance(0.05) ? one(@BAD_ESCAPES) : one(@UNITS));
}

sub properties_bytes {
    my @more = chance(0.5) ? () : chance(0.7) ? @UTF8 : (@UTF8, @BROKEN);
    my $text = some(1, 22, sub { chance(0.12) ? escape() : one(@PLAIN, chance(0.5) ? @more : ()) });
    return $text if !chance(0.004);
    # Java reads by blocks of 8,192
    return one('k=', '#', "\\", '') . one('x', ' ', "\\", "\xc3\xa9", "\n") x (8180 + rand 20) . $text;
}

# R: lines with references, whose characters are escaped or continued here and there

sub disguise {
    my ($text) = @_;
    my $out = '';
    for my $c (split //, $text) {
        $out .= "\\" . one("\n", "\r\n", "\r") . one('', ' ', "\t  ") if chance(0.03);
        my $code = ord $c;
        if ($c =~ /[\\\n\r\t\f\0]/ || $code > 0x7e || chance(0.05)) {
            $out .= $code < 0x100 && $code > 0xa0 && chance(0.3) ? chr $code : sprintf "\\u%04x", $code;
        } else {
            $out .= ($c =~ /[=: #!]/ && chance(0.3)) || ($c !~ /[tnrfu]/ && chance(0.03)) ? "\\$c" : $c;
        }
    }
    return $out;
}

sub any_rendering {
    my $text = '';
    for (0 .. rand 5) {
        if (chance(0.15)) {
            $text .= one('#', '!', ' # ', '') . some(0, 4, sub { one('x', ' ', "\\", '${test:p:k}') });
        } else {
            $text .= one('', '', ' ', "\t");
            $text .= disguise(one('k1', 'k2', 'k3', 'name', 'a b', 'a=b', '', "\x{e9}"));
            $text .= one('=', ':', ' ', ' = ', "\t:\t", "\f", " \\\n = ");
            $text .= disguise(some(0, 4, sub { chance(0.6) ? reference() : text(3) }));
            $text .= one('', '', '', ' ', "\\");
        }
        $text .= one("\n", "\n", "\r\n", "\r", "\n\n", chance(0.1) ? escape() : "\n");
    }
    $text =~ s/[\r\n]+\z// if chance(0.3);
    $text .= properties_bytes() if chance(0.1);
    return { kind => 'R', bytes => $text, table => any_table() };
}

# J

my @JSON_ATOMS = (
    'a', 'k', ' ', '$', '{', '}', ':', '${test:p:k}', '\\n', '\\t', '\\"', '\\\\', '\\/', '\\b', '\\u0041',
    '\\u00e9', '\\u0085', '\\ud83d\\ude00', '\\uDBFF\\uDFFF', '\\ud800\\udc00', '\\u2028', '\\uFFFF',
    "\xc3\xa9", "\xf0\x9f\x98\x80", "\xe2\x80\xa8", "\x7f", "'", '//'
);
my @JSON_RARE = (
    '\\ud83d', '\\ude00', '\\ude00\\ud83d', '\\u0000', "\xff", "\xc0\x80", "\xed\xa0\x80", "\n", "\t", '\\x',
    '\\u12', '\\U0041', "\0", "\\'"
);
my @SPACES  = ('', '', '', ' ', "\n", "\r\n", "\t");
my @SCALARS = (
    '0', '-0', '1.5', '1e5', '1E+5', '-1.50e-2', '12345678901234567890123', '9223372036854775808', '0.1000',
    'true', 'false', 'null'
);
my @NO_SCALARS = (
    '01', '+1', '.5', '1.', 'NaN', 'tru', 'TRUE', '1e', '-', '1e999', "'a'", '', 'nullx', '0x1', 'Infinity'
);

sub json_string {
    return '"' . some(0, 5, sub { chance(0.015) ? one(@JSON_RARE) : one(@JSON_ATOMS) }) . '"';
}

sub json_value {
    my ($depth) = @_;
    return one(@NO_SCALARS) if chance(0.006);
    return json_string()    if chance(0.75) || $depth > 3;
    return one(@SCALARS)    if chance(0.9);
    return json_object($depth + 1) if chance(0.5);
    return '[' . join(',', map { json_value($depth + 1) } 1 .. rand 3) . ']';
}

sub json_object {
    my ($depth) = @_;
    my @members;
    for my $n (1 .. rand 5) {
        my $key = chance(0.6) ? "\"k$n\"" : json_string();
        push @members, $key . one(@SPACES) . ':' . one(@SPACES) . json_value($depth);
    }
    return '{' . one(@SPACES) . join(one(@SPACES) . ',' . one(@SPACES), @members) . one(@SPACES) . '}';
}

sub json_request {
    my @members = ('"config":' . one(@SPACES) . (chance(0.05) ? json_value(0) : json_object(0)));
    push @members, '"name":' . (chance(0.1) ? one(@SCALARS) : json_string()) if chance(0.8);
    push @members, '"tasks":' . one('[]', '[{"connector":"n","task":0}]', '{}', 'null', '5') if chance(0.3);
    push @members, '"type":"source"' if chance(0.3);
    push @members, '"initial_state":"' . one('STOPPED', 'running') . '"' if chance(0.2);
    push @members, json_string() . ':' . json_value(0) if chance(0.2);
    @members = map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [rand, $_] } @members;
    return '{' . one(@SPACES) . join(',' . one(@SPACES), @members) . one(@SPACES) . '}';
}

sub any_json {
    my $text = one(@SPACES) . (chance(0.6) ? json_object(0) : json_request()) . one(@SPACES);
    if (chance(0.1)) {
        my $at = int rand length $text;
        if    (chance(0.3)) { substr $text, $at, 1, '' }
        elsif (chance(0.5)) { substr $text, $at, 0, one(qw(" \\ { } : 1 [), ',', "\xff", ' ') }
        elsif (chance(0.5)) { $text = substr $text, 0, $at }
        elsif (chance(0.5)) { $text .= one('x', '{}', '}', "\0", ',', '"') }
        else                { $text = "\xef\xbb\xbf$text" }
    }
    return { kind => 'J', bytes => $text };
}

# V: providers on a tree of files, and on the environment

my $PACKAGE = 'org.apache.kafka.common.config.provider.';
my @PATTERNS = (
    undef, '.*', '', 'IT_.*', 'IT_A', 'IT_', '(IT|it)_[A-Za-z]+', '[', 'IT_A|IT_AB', '(?i)it_.*', '\w+',
    '.*E.*', 'IT\..*', '^IT_A$', 'IT_A+B?', '(', '*', '\p{Lu}{2}_.+', '\QIT.dot\E', 'IT_[^L]*+'
);
my (@file_paths, @dir_paths, @allowed, @prop_keys, @dir_keys);

our %ENVIRONMENT = (
    IT_A      => 'a',
    IT_EMPTY  => '',
    IT_EQUALS => 'a=b=',
    IT_LINES  => "one\ntwo\n",
    IT_UTF8   => "\xc3\xa9\xf0\x9f\x98\x80",
    IT_REF    => '${env:IT_A}',
    it_lower  => 'lower',
    IT_AB     => 'ab',
    'IT.dot'  => 'dot',
);

sub spew {
    my ($path, $bytes) = @_;
    open my $out, '>:raw', $path or die "$path: $!\n";
    print $out $bytes;
    close $out or die "$path: $!\n";
}

# Makes the tree below dir (absolute, ASCII), which both programs have as their working directory.
sub make_tree {
    my ($dir) = @_;
    my @dirs = map { "$dir/$_" } qw(a a/sub ab b d d/subdir k8s/..2024_1 empty);
    make_path(@dirs);
    for my $file (qw(a/one a/two a/sub/three ab/x b/x)) {
        spew("$dir/$file.properties",
            "k=$file\nk2=\\u00e9 \xc3\xa9\n:empty key\nk3\nlone=\\ud83d\nnul=\\u0000\nk=$file again\n");
    }
    spew("$dir/a/p$_.properties", properties_bytes()) for 1 .. 40;
    spew("$dir/a/bad-escape.properties", "k=v\nx=\\u12\n");
    spew("$dir/a/bad-utf8.properties", "k=v\n#\xff\n");
    spew("$dir/a/bom.properties", "\xef\xbb\xbfk=v\nk2=w\n");
    spew("$dir/a/empty.properties", '');
    spew("$dir/a/sp ace.properties", 'k=v');
    spew("$dir/a/\xc3\xa9.properties", 'k=v');
    make_path("$dir/a/dir.properties");
    my %links = (
        'a/in.properties'       => 'one.properties',
        'a/out.properties'      => '../b/x.properties',
        'a/outdir'              => '../b',
        'a/leads-in'            => 'sub',
        'a/dangling.properties' => 'nowhere',
        'a/loop.properties'     => 'loop.properties',
        'link'                  => 'a',
        'dlink'                 => 'd',
        'd/link'                => 'foo',
        'd/dangling'            => 'no',
        'd/leads-out'           => '../b/x.properties',
        'd/linked-dir'          => 'subdir',
        'd/loop'                => 'loop',
        'k8s/..data'            => '..2024_1',
        'k8s/password'          => '..data/password',
        'k8s/user'              => '..data/user',
    );
    symlink $links{$_}, "$dir/$_" or die "$dir/$_: $!\n" for sort keys %links;
    my %values = (
        'foo'          => 'FOO',
        'bar'          => "BAR\n",
        '.dot'         => 'dot',
        'with space'   => ' ',
        "\xc3\xa9"     => "\xc3\xa9\xf0\x9f\x98\x80",
        'empty'        => '',
        'latin'        => "a\xffb",
        'surrogate'    => "\xed\xa0\x80",
        'bom'          => "\xef\xbb\xbfx",
        'nul'          => "a\0b",
        "new\nline"    => 'nl',
        'crlf'         => "a\r\nb\r\n",
        'subdir/inner' => 'inner',
        'big'          => 'x' x 70000,
    );
    spew("$dir/d/$_", $values{$_}) for keys %values;
    spew("$dir/k8s/..2024_1/$_", "secret $_\n") for qw(password user);

    @prop_keys = ('k', 'k', 'k2', 'k3', '', 'lone', 'nul', "\x{feff}k", 'v', 'missing', 'kv', "\x{e9}");
    @dir_keys  = (
        'foo', 'foo', 'bar', '.dot', 'with space', "\x{e9}", 'empty', 'latin', 'surrogate', 'bom', 'nul',
        "new\nline", 'crlf', 'big', 'subdir', 'subdir/inner', '../b/x.properties', '..', '.', '', 'link',
        'dangling', 'leads-out', 'linked-dir', 'loop', "foo\0", 'missing', './foo', 'foo/', "\x{d83d}",
        'x' x 300, 'password', 'user', '..data', '..data/user'
    );
    @file_paths = (
        (map { "a/$_.properties" } qw(one two in out sub/three dangling loop dir bad-escape bad-utf8 bom empty
            nowhere), 'sp ace', "\x{e9}"),
        (map { "a/p$_.properties" } 1 .. 40),
        qw(ab/x.properties b/x.properties link/one.properties link/sub/three.properties a/outdir/x.properties
            a/leads-in/three.properties a/outdir/../one.properties a/../b/x.properties a/./one.properties
            a//two.properties nowhere/../a/one.properties a/one.properties/ a/one.properties/x a d),
        'x' x 300,
    );
    @dir_paths = (
        qw(d d d d d d/ d/. d/../d d/subdir d/linked-dir d/foo empty k8s k8s k8s/..data dlink a b a/outdir
            nowhere),
        "d\0"
    );
    my @lists = (
        qw(@ @/a @/a @/d @/b @/ab @/a/one.properties @/a/ @/a/. @/b/../a @/link @/dlink @/d/subdir @/d/foo
            @/k8s/..data / a @/nowhere @/nowhere/../a @/a/outdir @//a @/empty),
        '@/a,@/b', '@/a,@/d', '@/d,@/k8s', ',', ',,', '@/a,', ',@/a', '@/a, @/b', ' ', '@/a,@/nowhere',
        '@/a/one.properties,@/d', '@/a,,@/d'
    );
    @allowed = (undef, undef, '', map { s/@/$dir/gr } @lists);
    $_ = "$dir/$_" for @file_paths, @dir_paths;
    return;
}

sub unique { my %seen; return grep { !$seen{$_}++ } @_ }

sub any_provider {
    my ($dir) = @_;
    my $kind = one(qw(File File Directory EnvVar));
    my @keys;
    if ($kind eq 'EnvVar') {
        my @names   = (sort(keys %ENVIRONMENT), 'IT_MISSING', '', 'IT_A=', "IT_A\0");
        my $pattern = one(@PATTERNS);
        my @params  = defined $pattern ? ['allowlist.pattern', $pattern] : ();
        push @params, ['unknown', 'x'] if chance(0.1);
        return {
            kind   => 'V',
            class  => $PACKAGE . 'EnvVarConfigProvider',
            path   => chance(0.9) ? '' : one('x', ' ', '/'),
            params => \@params,
            keys   => [unique(map { one(@names) } 0 .. rand 4)],
        };
    }
    my $path = $kind eq 'File' ? one(@file_paths) : one(@dir_paths);
    $path = '' if chance(0.02);
    $path =~ s/\A\Q$dir\E\/// if chance(0.05);
    $path .= one("\0", ' ', '/', '/.', '/..') if chance(0.02);
    @keys = unique(map { $kind eq 'File' ? one(@prop_keys) : one(@dir_keys) } 0 .. rand 4);
    my $allowed = one(@allowed);
    return { kind => 'V', class => "$PACKAGE${kind}ConfigProvider", path => $path,
        params => [defined $allowed ? ['allowed.paths', $allowed] : ()], keys => \@keys };
}

# count inputs of all kinds, by seed. dir: where make_tree has been.
sub generate {
    my ($seed, $count, $dir) = @_;
    my @kinds = (
        [0.30, \&any_transform],
        [0.25, sub { +{ kind => 'P', bytes => properties_bytes() } }],
        [0.20, \&any_rendering],
        [0.15, \&any_json],
        [0.10, sub { any_provider($dir) }],
    );
    my @records;
    srand $seed;
    make_tree($dir);
    for my $kind (@kinds) {
        push @records, map { $kind->[1]->() } 1 .. $count * $kind->[0];
    }
    return @records;
}

1;
