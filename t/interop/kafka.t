#!/usr/bin/perl
# Against Kafka itself: the same inputs through Kafka's own classes (Compare.java) and through our code
# (vectors.c), and the mount read by Kafka's FileConfigProvider.
#
#     kafka.t [--seed N] [--count N] [--only KINDS]
#
# From the environment: INTEROP_BUILD, where jars and classes go (default ./interop); VECTORS and
# FORMAT_BENCH, our programs (./t/interop/vectors, ./t/bench/format-bench); CONNECTFS (./connectfs).
# INTEROP_SEED and INTEROP_COUNT as the options. Jars come by Maven, once for a build folder.
use strict;
use warnings;
use Cwd qw(abs_path getcwd);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use File::Temp ();
use Getopt::Long qw(GetOptions);
use IPC::Open2 qw(open2);
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

my $src;
BEGIN { $src = abs_path(dirname(__FILE__)) }
use lib $src;
use Inputs;

my $seed  = $ENV{INTEROP_SEED}  || time ^ $$ << 8;
my $count = $ENV{INTEROP_COUNT} || 24_000;
my $only  = 'TPRJV';
GetOptions('seed=i' => \$seed, 'count=i' => \$count, 'only=s' => \$only) or exit 2;
$seed = int($seed) & 0x7fffffff;

my $build     = $ENV{INTEROP_BUILD} || 'interop';
my $vectors   = absolute($ENV{VECTORS}      || './t/interop/vectors');
my $bench     = absolute($ENV{FORMAT_BENCH} || './t/bench/format-bench');
my $connectfs = absolute($ENV{CONNECTFS}    || './connectfs');
make_path($build);
$build = abs_path($build);
my @java = ('java', '-Xss8m', '-cp', "$build/classes:$build/jars/*");

my %NAMES = (
    T => 'transform',
    P => 'properties',
    R => 'render and load again',
    J => 'JSON',
    V => 'providers',
);
use constant { SHOWN => 5, TRIALS => 400 };

sub absolute { my ($path) = @_; return $path =~ m{\A/} ? $path : getcwd() . "/$path" }

sub have { my ($program) = @_; return grep { -x "$_/$program" } split /:/, $ENV{PATH} // '' }

# Runs a command, output and errors to a file. True if it succeeded.
sub run_logged {
    my ($log, @command) = @_;
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDIN,  '<', '/dev/null' or POSIX::_exit(127);
        open STDOUT, '>', $log        or POSIX::_exit(127);
        open STDERR, '>&', \*STDOUT   or POSIX::_exit(127);
        { no warnings 'exec'; exec { $command[0] } @command; }
        POSIX::_exit(127);
    }
    waitpid $pid, 0;
    return $? == 0;
}

sub last_line {
    my ($file) = @_;
    open my $in, '<', $file or return '';
    my @lines = grep { /\S/ } <$in>;
    return @lines ? "$lines[-1]" =~ s/\e\[[0-9;]*m|\s+\z//gr : '';
}

# The reason why Kafka can't be had, or nothing.
sub fetch_kafka {
    return if -e "$build/jars/.complete";
    have('mvn') or return 'no mvn (Debian: maven)';
    remove_tree("$build/jars");
    run_logged("$build/mvn.log", 'mvn', '-q', '-B', '-f', "$src/pom.xml", 'dependency:copy-dependencies',
        "-DoutputDirectory=$build/jars")
        or return "Maven could not fetch Kafka's classes: " . last_line("$build/mvn.log");
    open my $mark, '>', "$build/jars/.complete" or die "$build/jars: $!\n";
    return;
}

# Runs one of the two programs over a file of records; the answers by number.
sub answers {
    my ($dir, $records, $name, @command) = @_;
    my ($in, $out) = map { "$dir/$name.$_" } qw(in out);
    open my $fh, '>', $in or die "$in: $!\n";
    print $fh "$_\n" for @$records;
    close $fh or die "$in: $!\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        enter_tree($dir) or POSIX::_exit(127);
        open STDIN,  '<', $in  or POSIX::_exit(127);
        open STDOUT, '>', $out or POSIX::_exit(127);
        { no warnings 'exec'; exec { $command[0] } @command; }
        POSIX::_exit(127);
    }
    waitpid $pid, 0;
    my $status = $?;
    open $fh, '<', $out or die "$out: $!\n";
    my %answers = map { chomp; split / /, $_, 2 } <$fh>;
    is($status, 0, "$name ran through")
        or diag("$command[0]: status $status after " . keys(%answers) . ' answers');
    return \%answers;
}

# Both programs see the same working directory and environment.
sub enter_tree {
    my ($dir) = @_;
    $ENV{LC_ALL} = 'C.UTF-8';
    delete $ENV{JAVA_TOOL_OPTIONS};
    @ENV{ keys %Inputs::ENVIRONMENT } = values %Inputs::ENVIRONMENT;
    return chdir "$dir/tree";
}

# One record after another, to make differences smaller.
{
    my %asked;

    sub ask {
        my ($dir, $name, $line) = @_;
        my @command = $name eq 'kafka' ? (@java, 'Compare', '-i') : ($vectors, '-i');
        my $who = $asked{$name} //= do {
            my ($cwd, %env) = (getcwd(), %ENV);
            enter_tree($dir);
            my $pid = open2(my $out, my $in, @command);
            %ENV = %env;
            chdir $cwd;
            { in => $in, out => $out, pid => $pid };
        };
        local $SIG{PIPE} = 'IGNORE';
        print { $who->{in} } "$line\n";
        $who->{in}->flush;
        my $answer = readline $who->{out};
        if (!defined $answer) {
            stop_asking($name);
            return 'died';
        }
        chomp $answer;
        return $answer =~ s/\A\S+ //r;
    }

    sub stop_asking {
        for my $who (grep { defined } delete @asked{@_}) {
            close $who->{in};
            waitpid $who->{pid}, 0;
        }
    }
}

# Compares two answers: '' (same), '| reason' (allowed to differ), or how they differ.
sub verdict {
    my ($r, $kafka, $ours) = @_;
    return "Kafka: $kafka\nours:  " . substr($ours, 0, 2000) if $kafka eq 'died' || $ours eq 'died';
    return $kafka eq 'same' ? '' : $kafka if $r->{kind} eq 'R';
    my ($answer, $reason) = split / \| /, $kafka, 2;
    return '' if $answer eq $ours;
    return "| $reason" if defined $reason && ($r->{kind} eq 'V' || $answer eq 'err' || $ours eq 'err');
    return "Kafka: $kafka\nours:  $ours";
}

sub ask_both {
    my ($dir, $r) = @_;
    my $ours = ask($dir, 'vectors', Inputs::line(0, $r));
    my $kafka = ask($dir, 'kafka', Inputs::line(0, $r, $r->{kind} eq 'R' ? $ours =~ s/ .*/x/r : undef));
    return verdict($r, $kafka, $ours);
}

# All that is one step smaller than a record.
sub smaller {
    my ($r) = @_;
    my @out;
    my $shorten = sub {
        my ($text) = @_;
        my ($len, @texts) = (length $text);
        for (my $n = $len; $n >= 1; $n = int($n / 2)) {
            for (my $at = 0; $at < $len; $at += $n) {
                my $copy = $text;
                substr $copy, $at, $n, '';
                push @texts, $copy;
            }
        }
        return @texts;
    };
    push @out, map { { %$r, bytes => $_ } } $shorten->($r->{bytes}) if exists $r->{bytes};
    for my $list (grep { ref $r->{$_} eq 'ARRAY' } qw(entries table keys params)) {
        my @items = @{ $r->{$list} };
        for my $i (0 .. $#items) {
            my @others = @items[grep { $_ != $i } 0 .. $#items];
            push @out, { %$r, $list => \@others } if $list ne 'keys' || @others;
            next if !ref $items[$i] || $r->{kind} eq 'V';
            my $last = $#{ $items[$i] };
            for my $text (defined $items[$i][$last] ? $shorten->($items[$i][$last]) : ()) {
                my @copy = @items;
                $copy[$i] = [@{ $items[$i] }[0 .. $last - 1], $text];
                push @out, { %$r, $list => \@copy };
            }
        }
    }
    return @out;
}

sub shrink {
    my ($dir, $r) = @_;
    my ($trials, $again) = (TRIALS, 1);
    while ($again && $trials > 0) {
        $again = 0;
        for my $try (smaller($r)) {
            last if $trials-- <= 0;
            my $v = ask_both($dir, $try);
            next if $v eq '' || $v =~ /\A\|/;
            ($r, $again) = ($try, 1);
            last;
        }
    }
    return $r;
}

# A text with all but printable ASCII as \x{…}.
sub show {
    my ($text) = @_;
    return defined $text ? "\"$text\"" =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ger : 'null';
}

sub readable { # an answer with its digits as text
    my ($answer) = @_;
    return $answer =~ s/\b((?:[0-9a-f]{4})+)\b/show(join '', map { chr hex } $1 =~ m{....}g)/ger;
}

sub print_difference {
    my ($dir, $r) = @_;
    my $difference = ask_both($dir, $r);
    my @lines = ("kind $r->{kind} ($NAMES{$r->{kind}})", Inputs::line(0, $r));
    push @lines, 'bytes: ' . show($r->{bytes}) if exists $r->{bytes};
    push @lines, "class: $r->{class}", 'path: ' . show($r->{path}) if $r->{kind} eq 'V';
    for my $list (grep { ref $r->{$_} eq 'ARRAY' } qw(params entries table keys)) {
        my @items = map { ref $_ ? '[' . join(' ', map { show($_) } @$_) . ']' : show($_) } @{ $r->{$list} };
        push @lines, "$list: " . join ', ', @items;
    }
    diag(join "\n    ", @lines, readable($difference));
}

sub compare {
    my ($dir) = @_;
    my @records = (Inputs::data("$src/../data"), Inputs::generate($seed, $count, "$dir/tree"));
    @records = grep { index($only, $_->{kind}) >= 0 } @records;
    diag(scalar(@records), " inputs, --seed $seed --count $count");

    my $ours = answers($dir, [map { Inputs::line($_, $records[$_]) } 0 .. $#records], 'vectors', $vectors);
    my @lines;
    for my $i (0 .. $#records) {
        my $rendered = $records[$i]{kind} eq 'R' ? ($ours->{$i} // 'err') =~ s/ .*/x/r : undef;
        push @lines, Inputs::line($i, $records[$i], $rendered);
    }
    my $kafka = answers($dir, \@lines, 'kafka', @java, 'Compare');

    my (%n, %bad, %allowed, @expected);
    for my $i (0 .. $#records) {
        my ($r, $k, $o) = ($records[$i], $kafka->{$i} // 'died', $ours->{$i} // 'died');
        my $group = $r->{from} ? $r->{from} =~ s/,.*//r : $NAMES{ $r->{kind} };
        my $v = verdict($r, $k, $o);
        $n{$group}++;
        $allowed{$group}{$1}++ if $v =~ /\A\| (.*)/;
        push @{ $bad{$group} }, $r if $v ne '' && $v !~ /\A\|/;
        # a row of t/data says what both must answer
        my $want = $r->{expected_error} ? 'err' : $r->{expected};
        next if !defined $want;
        next if ref $want ? $o =~ $want : $o eq $want;
        push @expected, "$r->{from}: " . readable($want) . "\n    ours: " . readable($o);
    }
    is_deeply(\@expected, [], 'each row of t/data is what we answer') or diag(join "\n", @expected);
    for my $group (sort keys %n) {
        my @bad = @{ $bad{$group} // [] };
        ok(!@bad, "$group: $n{$group} inputs are as Kafka has them")
            or diag(@bad . ' differ; the first, made small:');
        print_difference($dir, shrink($dir, $_)) for @bad[0 .. (@bad < SHOWN ? $#bad : SHOWN - 1)];
        my $allowed = $allowed{$group} // {};
        note("$group, on purpose not as Kafka: $_: $allowed->{$_}") for sort keys %$allowed;
    }
    stop_asking('kafka', 'vectors');
}

# Timing is told, never judged.
sub benchmark {
    my ($dir) = @_;
    return diag("no $bench: no timing") if !-x $bench;
    my %ns;
    for my $side (['kafka', @java, 'TransformBench'], ['ours', $bench]) {
        my ($name, @command) = @$side;
        open my $out, '-|', @command or return diag("$command[0]: $!");
        while (my $line = <$out>) {
            my $row = eval { JSON::PP->new->decode($line) } or next;
            $ns{ $row->{name} }{$name} = $row->{ns};
        }
        close $out or diag("$command[0] failed");
    }
    for my $name (sort grep { $ns{$_}{kafka} && $ns{$_}{ours} } keys %ns) {
        diag(sprintf '%s: Kafka %.2f us, ours %.2f us: %.1f times as fast', $name, $ns{$name}{kafka} / 1000,
            $ns{$name}{ours} / 1000, $ns{$name}{kafka} / $ns{$name}{ours});
    }
    my %growth; # of hostile values, by their size
    for my $name (keys %ns) {
        $growth{$1}{$2} = $ns{$name}{ours} if $name =~ /\A(hostile .*), (\d+) KiB\z/;
    }
    for my $name (sort keys %growth) {
        my $ns = $growth{$name};
        my @ns = map { sprintf '%d KiB %.0f', $_, $ns->{$_} / $_ } sort { $a <=> $b } keys %$ns;
        diag("$name: ours, ns a KiB at ", join ', ', @ns);
    }
}

# The mount, by the eyes of Kafka

sub read_bytes {
    my ($path) = @_;
    open my $in, '<:raw', $path or return;
    local $/;
    return scalar <$in>;
}

sub mounted {
    my ($mount) = @_;
    return grep { (split / /)[4] eq $mount } split /\n/, read_bytes('/proc/self/mountinfo') // '';
}

sub through_mount {
    my ($dir) = @_;
    plan skip_all => "no $connectfs" if !-x $connectfs;
    plan skip_all => 'no /dev/fuse' if !-w '/dev/fuse';
    my ($source, $mount) = map { "$dir/$_" } qw(source mount);
    make_path($source, $mount);

    my %secrets = (
        plain       => 'hunter2',
        spaces      => '  both ends  ',
        empty       => '',
        latin       => "\x{e9}\x{ff}",
        astral      => "\x{d83d}\x{de00}",
        lone        => "a\x{d83d}b",
        nul         => "a\0b",
        lines       => "one\ntwo\r\n\ttab\f",
        backslashes => '\\\\server\\share\\',
        separators  => '=:#! =:',
        reference   => '${file:x:y} ${env:z}',
        controls    => "\x{1}\x{7f}\x{85}\x{2028}\x{feff}",
        quotes      => q{"it's"},
        long        => 'x' x 70_000,
    );
    my $write = sub {
        my $text = '';
        for my $key (sort keys %secrets) {
            $text .= "$key=" . $secrets{$key} =~ s/(.)/sprintf '\\u%04x', ord $1/gers . "\n";
        }
        Inputs::spew("$dir/secrets.new", $text);
        rename "$dir/secrets.new", "$dir/secrets.properties" or die "$dir/secrets.properties: $!\n";
    };
    $write->();
    my $ref    = sub { "\${file:$dir/secrets.properties:$_[0]}" };
    my %config = (
        (map { ("c.$_" => $ref->($_)) } keys %secrets),
        'name'    => 'orders',
        'c.two'   => 'a' . $ref->('plain') . 'b' . $ref->('lines') . 'c',
        'c.other' => '${unknown:a:b}',
    );
    my $text = join '', "# orders\n", map { "$_ = $config{$_}\n" } sort keys %config;
    Inputs::spew("$source/orders.properties", $text);
    my %in_json = map { $_ => $config{$_} } grep { !/nul|lone/ } keys %config;
    Inputs::spew("$source/payments.json", JSON::PP->new->encode({ name => 'payments', config => \%in_json }));

    my $expect = sub { # the map that a reader finds now, without what matches skip
        my ($skip) = @_;
        my %map = map { ("c.$_" => $secrets{$_}) } keys %secrets;
        @map{qw(name c.two c.other)} = ('orders', "a$secrets{plain}b$secrets{lines}c", $config{'c.other'});
        delete @map{ grep { /$skip/ } keys %map };
        return \%map;
    };
    my $kafka_reads = sub {
        my ($name, @params) = @_;
        my $map    = $expect->('^$');
        my $answer = ask($dir, 'kafka', Inputs::line(0, {
            kind   => 'V',
            class  => 'org.apache.kafka.common.config.provider.FileConfigProvider',
            params => \@params,
            path   => "$mount/orders.properties",
            keys   => [sort keys %$map],
        }));
        is(readable($answer), readable(Inputs::map_answer($map)), $name);
    };
    my $kafka_parses = sub {
        my ($name, $kind, $file, $expected) = @_;
        my $record = { kind => $kind, bytes => read_bytes("$mount/$file") // '' };
        is(readable(ask($dir, 'kafka', Inputs::line(0, $record))), readable($expected), $name);
    };

    ok(run_logged("$dir/connectfs.log", $connectfs, $source, $mount), 'mounted')
        or diag(last_line("$dir/connectfs.log"));
    $kafka_reads->('FileConfigProvider reads all values of the mount');
    $kafka_reads->('also with allowed.paths', ['allowed.paths', $mount]);
    my $all = Inputs::map_answer($expect->('^$'));
    $kafka_parses->('Properties.load reads the same in UTF-8 and in ISO-8859-1', 'P', 'orders.properties',
        "utf8 $all latin1 $all");
    $kafka_parses->('Jackson reads the JSON of the mount', 'J', 'payments.json',
        'request ' . Inputs::digits('payments') . ' ' . Inputs::map_answer($expect->('nul|lone')));

    @secrets{qw(plain astral)} = ('rotated', "\x{d83e}\x{dd80}");
    $write->();
    $kafka_reads->('a rotation is in the next read');

    stop_asking('kafka');
    my $log = "$dir/umount.log";
    (have('fusermount3') && run_logged($log, 'fusermount3', '-u', $mount))
        || run_logged($log, 'umount', $mount);
    for (1 .. 50) { last if !mounted($mount); sleep 0.1 }
    ok(!mounted($mount), 'unmounted') or run_logged($log, 'fusermount3', '-uz', $mount);
}

have($_) or plan skip_all => "no $_ (Debian: default-jdk-headless)" for qw(java javac);
if (my $reason = fetch_kafka()) {
    plan skip_all => $reason;
}
make_path("$build/classes");
run_logged("$build/javac.log", 'javac', '-encoding', 'UTF-8', '-d', "$build/classes", '-cp', "$build/jars/*",
    glob "$src/*.java")
    or BAIL_OUT("javac: " . (read_bytes("$build/javac.log") // ''));
-x $vectors or BAIL_OUT("no $vectors: make builds it");
my $tmp = File::Temp->newdir('connectfs-interop-XXXXXX', TMPDIR => 1);
my $dir = abs_path("$tmp");
make_path("$dir/tree");
compare($dir);
subtest 'the mount' => sub { through_mount($dir) };
benchmark($dir);
done_testing();
