#!/usr/bin/perl
# make bench: connectfs beside a FUSE file system with nothing behind it (t/bench/nullfs.c), in one
# run, as a table and as JSON.
#
#     bench.pl [--only a,b,…] [--runs N] [--restarts N] [--quick] [--output FILE] [--wait SECONDS]
#
# To be run in the build directory. Parts:
#     a  open+read+close by 1 and 4 threads          e  change of a secret file to the reader's event
#     b  stat                                        f  resident memory, and the keep
#     c  ls -l of 10,000 resolved connectors         g  time until the mount is ready
#     d  rotation of 10,000 connectors               h  references resolved by the pure functions
#     i  a reader's wait over the worker's crash     j  a reader's wait over an upgrade
#        (of 100 connectors; also of 10,000, but not with --quick)
#     k  10,000 connectors of a Vault of 5 ms        l  the real OpenBao, beside bao agent
#        (t/bench/vault-server.c)                       (t/lib/ConnectFS/OpenBao.pm; left out where it can't be had)
#
# What the journal costs is in a (and b, c): each request goes through it, from its read to its answer, and each
# open through the keep; the null file system has neither.
#
# In i and j somebody opens, reads and closes one file without a pause, and the figure is the longest that one
# such operation took around each of N restarts (--restarts: 100; with 10,000 connectors a fifth of that). None
# may fail, or there is no figure at all. In i the null file system's turn is what its users do: kill -9, the
# dead mount detached, started again; its reader tries until it succeeds. In j each restart is a real upgrade:
# two builds that differ in their version are installed by turns where the supervisor takes its program from,
# and the mount has to tell the other version. "quiet" is the longest operation while nothing happens, for as
# long as it takes a worker to start: what the machine does to a reader by itself.
#
# A ratio is the median of the ratios of pairs of runs, ours and the null file system's by turns (a and b
# 5 N short ones, c 3 N, d N, which is 9), and its spread are the quartiles and both ends. The machine is looked at before each part: where
# others use more than a tenth of it, or the null file system itself varies by more than a fifth between
# its quartiles, the figure is marked as noisy. --wait waits so long for a quiet moment before each
# part. The exit status says nothing about the figures.
use strict;
use warnings;

BEGIN { $ENV{CONNECTFS_TEST_TIMEOUT} ||= 7200 }
use FindBin ();
use lib "$FindBin::Bin/../lib";
use ConnectFS::Guard; # first: it forks; ends what is left however we end

use Cwd ();
use Getopt::Long ();
use JSON::PP ();
use List::Util ();
use POSIX ();
use Time::HiRes qw(sleep time);

my $NOISE_OTHERS = 0.10; # of the machine
my $NOISE_SPREAD = 0.20; # between the quartiles of the null file system's runs
my $MANY = 10_000;
my $SETTLE_MS = 20;

my %opt = (runs => 9, restarts => 100, output => 'bench.json', wait => 0);
Getopt::Long::GetOptions(\%opt, 'only=s', 'runs=i', 'restarts=i', 'quick', 'output=s', 'wait=f', 'help')
	or die "bench: see the head of $0\n";
if ($opt{help}) { print "usage: bench.pl [--only a,b,...] [--runs N] [--restarts N] [--quick] [--output FILE] [--wait SECONDS]\n"; exit 0 }
if ($opt{quick}) { $opt{runs} = 3 if $opt{runs} == 9; $opt{restarts} = 20 if $opt{restarts} == 100; $MANY = 2_000 }

my $BUILD = Cwd::getcwd();
my $PROGRAM = Cwd::abs_path($ENV{CONNECTFS} || "$BUILD/connectfs");
my %TOOL = map { $_ => "$BUILD/t/bench/$_" } qw(nullfs reader format-bench vault-server);
for ($PROGRAM, values %TOOL) { -x or die "bench: $_ is not there: run make bench\n" }
$ENV{LC_ALL} = 'C.UTF-8';
my $BASE = $ConnectFS::Guard::BASE;
mkdir "$BASE/run", 0700;
$ENV{XDG_RUNTIME_DIR} = "$BASE/run";

# ---- processes ----------------------------------------------------------------------------------

my %mounted; # mount points
my %live;    # pid => 1: of the mounts

# $to: where its output goes, or two handles, for its input and its output
sub spawn {
	my ($to, @cmd) = @_;
	my ($in, $out) = ref $to ? @$to : ('/dev/null', $to);
	my $pid = fork // die "fork: $!\n";
	return $pid if $pid;
	$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
	# The kernel shares the machine between sessions (sched_autogroup): connectfs has one of its own
	POSIX::setsid() if $cmd[0] eq $TOOL{nullfs};
	open(STDIN, ref $in ? '<&' : '<', $in);
	open(STDOUT, ref $out ? '>&' : '>', $out);
	open(STDERR, '>>', "$BASE/errors");
	{ no warnings; exec { $cmd[0] } @cmd }
	POSIX::_exit(127);
}

sub slurp { my ($path) = @_; open(my $f, '<:raw', $path) or die "$path: $!\n"; local $/; return <$f> // '' }

sub failed {
	my ($what) = @_;
	my $errors = -e "$BASE/errors" ? slurp("$BASE/errors") : '';
	die "bench: $what\n" . substr($errors, length $errors > 2000 ? -2000 : 0);
}

# What a tool printed; it must not fail
sub run {
	my @cmd = @_;
	my $pid = spawn("$BASE/out", @cmd);
	waitpid($pid, 0);
	failed("$cmd[0] $cmd[1]: exit status " . ($? >> 8)) if $?;
	return slurp("$BASE/out");
}

our @WITH; # what the reader is run with
sub reader { return JSON::PP::decode_json(run(@WITH, $TOOL{reader}, @_)) }

sub wait_until {
	my ($seconds, $what, $condition) = @_;
	my $end = time + $seconds;
	until ($condition->()) {
		failed("waited $seconds s: $what") if time > $end;
		sleep 0.01;
	}
}

sub is_mounted { my ($at) = @_; return scalar ConnectFS::Guard::mounts_below($at) }

our $INSTALLED = $PROGRAM; # what mounts, and what a reload takes

# Mounts ours; ready when it returns
sub mount_ours {
	my ($source, @options) = @_;
	my $at = "$BASE/mnt";
	mkdir $at;
	my $t0 = time;
	my $pid = spawn('/dev/null', $INSTALLED, @options, $source, $at);
	waitpid($pid, 0);
	my $seconds = time - $t0;
	$mounted{$at} = undef;
	failed("connectfs: exit status " . ($? >> 8)) if $?;
	my $head = slurp_head("$at/.connectfs/status.json");
	my %pid = map { $head =~ /"$_":(\d+)/ ? ($_ => $1) : () } qw(supervisor worker notifier);
	failed('no process ids in the status') if keys %pid != 3;
	@live{values %pid} = (1) x 3;
	return { at => $at, seconds => $seconds, pid => \%pid };
}

# The process ids are at the beginning of the status
sub slurp_head { my ($path) = @_; open(my $f, '<:raw', $path) or failed("$path: $!"); sysread($f, my $head, 65536); return $head }

sub mount_null {
	my ($n, $file, $pattern) = @_;
	my $at = "$BASE/null";
	mkdir $at;
	my $m = { at => $at, command => [$TOOL{nullfs}, '-p', $pattern, $at, $n, $file] };
	start_null($m);
	wait_until(10, 'the null file system', sub { is_mounted($at) });
	stat "$at/x"; # answered once it serves
	return $m;
}

sub start_null {
	my ($m) = @_;
	my $pid = spawn('/dev/null', @{$m->{command}});
	$m->{pid} = { worker => $pid };
	$mounted{$m->{at}} = $pid;
	$live{$pid} = 1;
}

# Have they ended? Waits for it.
sub gone {
	my ($seconds, @pids) = @_;
	my $end = time + $seconds;
	while (1) {
		1 while waitpid(-1, POSIX::WNOHANG()) > 0;
		return 1 unless grep { -e "/proc/$_" && (eval { slurp("/proc/$_/stat") } // ') Z ') !~ /\) Z / } @pids;
		return 0 if time > $end;
		sleep 0.01;
	}
}

# A mount that somebody else's namespace has a copy of goes on after umount: its processes are told then.
sub unmount {
	my ($m) = @_;
	my $at = $m->{at};
	my @cmd = $> == 0 ? ('umount', $at) : ('fusermount3', '-u', $at);
	ends(values %{$m->{pid}});
	my $pid = spawn('/dev/null', @cmd);
	waitpid($pid, 0);
	ConnectFS::Guard::detach($at) if $?;
	delete $mounted{$at};
	my @pids = values %{$m->{pid}};
	return if gone(2, @pids);
	kill TERM => $m->{pid}{supervisor} // $m->{pid}{worker};
	return if gone(5, @pids);
	kill KILL => @pids;
	gone(5, @pids) or failed("the processes of $at don't end");
}

END { local $?; ConnectFS::Guard::detach($_) for keys %mounted }
$SIG{$_} = sub { die "bench: ended by SIG$_[0]\n" } for qw(INT TERM HUP);

# ---- figures ------------------------------------------------------------------------------------

sub quantile {
	my ($q, @x) = @_;
	@x = sort { $a <=> $b } @x;
	my $at = $q * $#x;
	my $i = int $at;
	return $i == $#x ? $x[$i] : $x[$i] + ($at - $i) * ($x[$i + 1] - $x[$i]);
}

sub spread { my @x = @_; return { median => quantile(0.5, @x), min => quantile(0, @x), q1 => quantile(0.25, @x), q3 => quantile(0.75, @x), max => quantile(1, @x), n => scalar @x } }

my ($part, @rows, $text);

# CPU time in ticks: of the machine (busy, all), and of what we started
sub cpu { my @f = split ' ', slurp('/proc/stat'); my $all = List::Util::sum(@f[1 .. 8]); return ($all - $f[4] - $f[5], $all) }

my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());
my $ended = 0; # by the processes of mounts that have ended

sub ticks_of { my ($pid) = @_; my $stat = eval { slurp("/proc/$pid/stat") } // ''; my @f = split ' ', $stat =~ s/^.*\) //sr; return @f > 14 ? List::Util::sum(@f[11 .. 14]) : 0 } # with the children that it has waited for
sub own { return $ticks * List::Util::sum((times)[0 .. 3]) + $ended + List::Util::sum(0, map { ticks_of($_) } keys %live) }
sub ends { for (@_) { $ended += ticks_of($_) if delete $live{$_} } }

# How much of the machine others have used since then
my @since;
sub since { @since = (cpu(), own()) }
sub others { my ($busy, $all) = cpu(); my $d = $all - $since[1]; return $d > 0 ? List::Util::max(0, ($busy - $since[0] - own() + $since[2]) / $d) : 0 }

sub begin {
	($part) = @_;
	my $end = time + $opt{wait};
	do { since(); sleep 0.5 } while (others() > $NOISE_OTHERS && time < $end);
	since();
	print STDERR "bench: part $part\n" if -t STDERR;
}

# A row of table and JSON: what, figure, goal as a text, and whether it is reached
sub row {
	my (%r) = @_;
	my $others = others();
	my $noisy = delete $r{noisy} || $others > $NOISE_OTHERS;
	if (my $null = $r{null}) { $noisy = 1 if ($null->{q3} - $null->{q1}) / $null->{median} > $NOISE_SPREAD }
	push @rows, { part => $part, others_use => 0 + sprintf('%.2f', $others), noisy => $noisy ? JSON::PP::true : JSON::PP::false, %r };
	my $met = exists $r{met} ? ($r{met} ? 'yes' : 'no') : '';
	$text .= sprintf("%s  %-43s %-45s %-22s %-4s%s\n", $part, $r{what}, $r{figure}, $r{goal} // '', $met, $noisy ? 'noisy' : '');
}

sub met { return $_[0] ? JSON::PP::true : JSON::PP::false }

# Figures of runs by turns, ours and the null file system's
sub compare {
	my ($ours, $null) = @_;
	return { ours => spread(@$ours), null => spread(@$null), ratio => spread(map { $ours->[$_] / $null->[$_] } 0 .. $#$ours) };
}

# Each sub makes one run and gives its figure
sub pairs {
	my ($runs, $ours, $null) = @_;
	my (@ours, @null);
	$ours->(), $null->(); # warm
	for (1 .. $runs) { push @ours, $ours->(); push @null, $null->() }
	return compare(\@ours, \@null);
}

# One process makes all the runs by turns, short ones: so that both meet the same machine
sub rates {
	my ($verb, $threads, $seconds, @at) = @_;
	my $all = reader($verb, $threads, $seconds, 5 * $opt{runs} + 1, map { "$_->{at}/c%.properties:0:8" } @at)->{rates};
	shift @$all; # warm
	return compare([map { $_->[0] } @$all], [map { $_->[1] } @$all]);
}

sub ratio_row {
	my ($what, $p, $unit, $goal, $is_met) = @_;
	my $r = $p->{ratio};
	row(what => $what, %$p, unit => $unit, goal => $goal, met => met($is_met->($r->{median})),
	    figure => sprintf('%.2f (%.2f-%.2f, %.2f..%.2f)  %s : %s %s', @$r{qw(median q1 q3 min max)}, short($p->{ours}{median}), short($p->{null}{median}), $unit));
}

sub short { my ($x) = @_; return $x >= 10_000 ? sprintf('%.1fk', $x / 1000) : $x >= 100 ? sprintf('%.0f', $x) : sprintf('%.3g', $x) }

# ---- what is mounted ----------------------------------------------------------------------------

# A connector of 30 keys and 5 references, as those that Kafka's ConfigTransformer was measured with. Bytes.
sub config_text {
	my ($i, $secret) = @_;
	return "name=c$i\n" . join('', map { "some.property.name.$_=an ordinary value of number $_\n" } 0 .. 23)
		. join('', map { "some.secret.$_=\${file:$secret:key$_}\n" } 0 .. 4);
}

sub spew { my ($path, $bytes) = @_; open(my $f, '>:raw', $path) or die "$path: $!\n"; print $f $bytes; close $f or die "$path: $!\n"; return length $bytes }

# A directory of n connectors over one secret file (own: each over its own); path and total bytes
sub make_source {
	my ($n, $own) = @_;
	my $dir = "$BASE/source" . ($own ? '-own' : '') . "-$n";
	my $bytes = 0;
	my $secrets = "$dir.secrets";
	if (!-d $dir) {
		mkdir $dir or die "$dir: $!\n";
		mkdir $secrets;
		my @of = $own ? (0 .. $n - 1) : (0);
		spew("$secrets/$_.properties", secret_text()) for @of;
		$bytes += spew("$dir/c$_.properties", config_text($_, "$secrets/" . ($own ? $_ : 0) . '.properties')) for 0 .. $n - 1;
		spew("$dir.bytes", $bytes);
		sleep 0.1; # so that no file is young
	}
	return { dir => $dir, bytes => 0 + slurp("$dir.bytes"), secret => "$secrets/0.properties", n => $n };
}

sub secret_text { return join '', map { "key$_=v1000$_\n" } 0 .. 4 }

# Both over the same bytes
sub mount_both {
	my ($n) = @_;
	my $source = make_source($n);
	my $ours = mount_ours($source->{dir});
	reader('once', "$ours->{at}/c%.properties:0:$n");
	spew("$BASE/body", slurp("$ours->{at}/c0.properties"));
	my $null = mount_null($n, "$BASE/body", 'c%u.properties');
	reader('once', "$null->{at}/c%.properties:0:$n");
	# Both have as many threads as they ever will: how many makes a difference
	reader('open', 32, 0.5, 2, map { "$_->{at}/c%.properties:0:32" } $ours, $null);
	return ($ours, $null, $source);
}

# ---- the parts ----------------------------------------------------------------------------------

my $both; # [ours, null, source] of as many as part c wants

sub both { $both //= [mount_both($MANY)]; return @$both }
sub end_both { if ($both) { unmount($_) for @$both[0, 1]; undef $both } }

# All threads of a mount's server on one processor, or on any again
sub pin {
	my ($cpus, @mounts) = @_;
	run('taskset', '-a', '-p', '-c', $cpus, $_->{pid}{worker}) for @mounts;
}

sub part_a {
	my ($ours, $null) = both();
	my $last = POSIX::sysconf(84) - 1; # _SC_NPROCESSORS_ONLN
	for my $threads (1, 4) {
		my $p = rates('open', $threads, 0.1, $ours, $null);
		ratio_row("open+read+close, $threads thread" . ($threads > 1 ? 's' : ''), $p, '/s', '>= 0.95', sub { $_[0] >= 0.95 });
	}
	# The processor's work alone: without the wake-ups from one processor to another, which are most of the
	# time above and most of its noise
	pin($last, $ours, $null);
	local @WITH = ('taskset', '-c', $last);
	my $p = rates('open', 1, 0.1, $ours, $null);
	ratio_row('open+read+close, all on one processor', $p, '/s', '>= 0.95', sub { $_[0] >= 0.95 });
	pin("0-$last", $ours, $null);
}

sub part_b {
	my ($ours, $null) = both();
	ratio_row('stat', rates('stat', 1, 0.05, $ours, $null), '/s', '>= 0.95', sub { $_[0] >= 0.95 });
}

sub part_c {
	my ($ours, $null) = both();
	my $p = pairs(3 * $opt{runs}, map { my $m = $_; sub { my $t0 = time; run('/bin/ls', '-l', $m->{at}); 1000 * (time - $t0) } } $ours, $null);
	ratio_row("ls -l of $MANY resolved connectors", $p, 'ms', '<= 1.5', sub { $_[0] <= 1.5 });
}

sub part_d {
	my ($ours, $null, $source) = both();
	my @names = ("c%.properties:0:$MANY");
	my $p = pairs($opt{runs}, sub { sleep 0.1; 1e6 / $MANY * reader('rotate', $ours->{at}, 1, $source->{secret}, @names)->{seconds}[0] },
	              sub { 1e6 / $MANY * reader('touch', $null->{at}, 1, @names)->{seconds}[0] });
	ratio_row("rotation of $MANY, a connector", $p, 'us', '<= 2 x two bare touches', sub { $_[0] <= 2 });
}

sub part_e {
	my $source = make_source(100);
	my $dir = "$BASE/source-latency";
	my $secret = "$dir.properties";
	mkdir $dir or die "$dir: $!\n";
	spew($secret, secret_text());
	spew("$dir/c0.properties", config_text(0, $secret));
	sleep 0.1;
	my $m = mount_ours($dir);
	reader('once', "$m->{at}/c0.properties");
	for my $way (['write', 'written in place'], ['rename', 'renamed over']) {
		my ($l, $late) = @{reader('latency', $way->[0], $opt{quick} ? 50 : 400, $secret, "$m->{at}/c0.properties")}{qw(latency late)};
		row(what => "secret file $way->[1] to IN_MODIFY", unit => 'ms', ours => $l, reader_late => $late, goal => 'p99 <= settle + 5 ms',
		    met => met($l->{p99} <= $SETTLE_MS + 5), noisy => $late->{p99} > 2,
		    figure => sprintf('p50 %.1f  p99 %.1f (%.1f..%.1f) ms; reader +%.1f', @$l{qw(p50 p99 min max)}, $late->{p99}));
	}
	unmount($m);
}

sub rss { my ($pid) = @_; return slurp("/proc/$pid/status") =~ /VmRSS:\s+(\d+) kB/ ? $1 : 0 }

# Once it has not moved for a while
sub rss_settled {
	my ($pid) = @_;
	my ($last, $since) = (rss($pid), time);
	while (time - $since < 0.6) {
		sleep 0.05;
		my $now = rss($pid);
		($last, $since) = ($now, time) if abs($now - $last) > 8;
	}
	return $last;
}

sub memory {
	my ($n, $own) = @_;
	my $source = make_source($n, $own);
	my $m = mount_ours($source->{dir});
	my %kib = (stored => rss_settled($m->{pid}{worker}));
	reader('once', "$m->{at}/c%.properties:0:$n");
	$kib{resolved} = rss_settled($m->{pid}{worker});
	$kib{$_} = rss($m->{pid}{$_}) for qw(supervisor notifier);
	my $rendered = (-s "$m->{at}/c0.properties") * $n;
	my $keep = slurp_head("$m->{at}/.connectfs/status.json") =~ /"keep":(\{[^{}]*\})/ ? JSON::PP::decode_json($1) : failed('no keep in the status');
	unmount($m);
	return { n => $n, kib => \%kib, keep => $keep, stored_bytes => $source->{bytes}, rendered_bytes => $rendered };
}

# The supervisor has all of it mapped and locked
sub keep_row {
	my ($m) = @_;
	my ($k, $n) = @$m{qw(keep n)};
	row(what => "$n connectors, resolved: keep", unit => 'B', used_each => $k->{used} / $n, %$m,
	    figure => sprintf('%.2f of %.0f MiB; %.0f B each; supervisor %.1f MiB', $k->{used} / 2**20, $k->{size} / 2**20, $k->{used} / $n, $m->{kib}{supervisor} / 1024));
}

sub part_f {
	my $few = memory(100);
	row(what => '100 connectors, resolved: worker', unit => 'KiB', %$few, goal => '<= 15 MiB', met => met($few->{kib}{resolved} <= 15 * 1024),
	    figure => sprintf('%.1f MiB (stored only %.1f); supervisor %.1f, notifier %.1f', map { $_ / 1024 } @{$few->{kib}}{qw(resolved stored supervisor notifier)}));
	keep_row($few);
	for my $size ([$MANY], $opt{quick} ? () : [10 * $MANY], [$MANY, 1]) {
		my ($n, $own) = @$size;
		my $many = memory($n, $own);
		# Beyond what the process takes with few, and the bytes of the configs
		for my $how (qw(stored resolved)) {
			next if $own && $how eq 'stored';
			my $bytes = $many->{stored_bytes} - $few->{stored_bytes};
			$bytes += $many->{rendered_bytes} - $few->{rendered_bytes} if $how eq 'resolved';
			my $each = (1024 * ($many->{kib}{$how} - $few->{kib}{$how}) - $bytes) / ($n - 100);
			my $what = $how eq 'stored' ? "$n connectors, stored only" : "$n connectors, resolved" . ($own ? ', own secrets' : '');
			# The last beside it: what a secret, its watch and its values take as well
			my @goal = $own ? () : (goal => '<= 4 KiB beyond bytes', met => met($each <= 4096));
			row(what => $what, unit => 'B', bytes_each => $each, %$many, @goal,
			    figure => sprintf('%.1f MiB; %.0f B each beyond its bytes', $many->{kib}{$how} / 1024, $each));
		}
		keep_row($many) unless $own;
	}
}

sub part_g {
	for my $n (100, $MANY) {
		my $source = make_source($n);
		my @ms;
		for (0 .. $opt{runs}) {
			my $m = mount_ours($source->{dir});
			push @ms, 1000 * $m->{seconds};
			sleep 0.2;
			unmount($m);
		}
		shift @ms; # the page cache is warm after the first
		my ($s, $goal) = (spread(@ms), 50 + $n / 100);
		row(what => "ready with $n connectors", unit => 'ms', ours => $s, goal => "<= $goal ms", met => met($s->{median} <= $goal),
		    figure => sprintf('%.1f (%.1f-%.1f, %.1f..%.1f) ms', @$s{qw(median q1 q3 min max)}));
	}
}

sub part_h {
	my @all = map { JSON::PP::decode_json($_) } split /\n/, run($TOOL{'format-bench'});
	my %hostile;
	for (@all) {
		if ($_->{name} =~ /^(hostile.*), (\d+) KiB$/) { $hostile{$1}{$2} = $_ ; next }
		my $refs = $_->{name} =~ /(\d+) references/ ? $1 : 1;
		row(what => $_->{name}, unit => 'ns', ours => { median => $_->{ns}, min => $_->{min_ns}, max => $_->{max_ns} },
		    figure => sprintf('%.2f us (%.2f..%.2f), %s references/s', (map { $_ / 1000 } @$_{qw(ns min_ns max_ns)}), short(1e9 * $refs / $_->{ns})));
	}
	for my $name (sort keys %hostile) {
		my $h = $hostile{$name};
		my @kib = sort { $a <=> $b } keys %$h;
		# Linear: a byte costs about the same in a long text as in one of a 64th
		my ($few, $many) = ($kib[-7 < -@kib ? 0 : -7], $kib[-1]);
		my $growth = $h->{$many}{ns} / $h->{$few}{ns} / ($many / $few);
		row(what => $name, unit => 'ns', growth => $growth, ours => { map { $_ => $h->{$_}{ns} } @kib }, goal => 'linear (about 1)', met => met($growth < 2),
		    figure => sprintf('%.2f x a byte from %d to %d KiB, %.2f ns/B', $growth, $few, $many, $h->{$many}{ns} / 1024 / $many));
	}
}

# A reader that tells how long it had to wait
sub waiter {
	my ($way, $file) = @_;
	pipe(my $in, my $to) && pipe(my $from, my $out) or die "pipe: $!\n";
	return { to => $to, from => $from, pid => spawn([$in, $out], $TOOL{reader}, 'wait', $way, $file) };
}

# Its answer to a byte
sub ask {
	my ($w) = @_;
	local $SIG{PIPE} = 'IGNORE'; # it has failed: then it does not answer either
	syswrite $w->{to}, "\n";
	vec(my $from = '', fileno $w->{from}, 1) = 1;
	select($from, undef, undef, 90) > 0 or failed('the reader still waits');
	my $line = readline($w->{from}) // failed('the reader failed');
	return JSON::PP::decode_json($line);
}

sub end_waiter {
	my ($w) = @_;
	close $w->{to};
	waitpid($w->{pid}, 0);
	failed('the reader failed') if $?;
}

# The longest operation while something happens at a moment that it knows nothing of, in ms. What happens returns when
# whoever answered before can't any more.
sub longest {
	my ($w, $happens) = @_;
	ask($w);
	sleep 0.005 + rand 0.01;
	$happens->();
	return ask($w)->{ms};
}

# The worker that is there now, without asking the mount
sub worker_of {
	my ($supervisor) = @_;
	my $children = eval { slurp("/proc/$supervisor/task/$supervisor/children") };
	my $all = defined $children ? undef : ConnectFS::Guard::processes(); # a kernel without that file
	for my $pid ($all ? grep { $all->{$_}[0] == $supervisor } keys %$all : split ' ', $children) {
		return $pid if (eval { slurp("/proc/$pid/cmdline") } // '') =~ /\0--role=worker\0/;
	}
	return 0;
}

# The supervisor starts another when it has waited for the old one
sub await_successor {
	my ($m) = @_;
	my ($old, $end, $new) = ($m->{pid}{worker}, time + 30);
	until (($new = worker_of($m->{pid}{supervisor})) && $new != $old) {
		failed('no worker takes the place of the one that was killed') if time > $end;
		sleep 0.002;
	}
	$m->{pid}{worker} = $new;
	delete $live{$old}; # its time is the supervisor's now
	$live{$new} = 1;
}

sub crash {
	my ($m) = @_;
	$m->{pid}{worker} == worker_of($m->{pid}{supervisor}) or failed('another worker than the last that was started');
	kill(KILL => $m->{pid}{worker}) or failed("kill: $!");
	await_successor($m);
}

# Two programs that differ in their version only; [version, bytes] each
sub two_versions {
	my $bytes = slurp($PROGRAM);
	my ($version) = run($PROGRAM, '--version') =~ /(\d+\.\d+\.\d+)/ or failed('--version tells none');
	(my $other = $version) =~ s/(\d)$/($1 + 1) % 10/e;
	(my $patched = $bytes) =~ s/\Q$version\E/$other/g or failed("no $version in $PROGRAM");
	return [$version, $bytes], [$other, $patched];
}

# As packages are installed: renamed over
sub install {
	my ($bytes) = @_;
	spew("$INSTALLED.new", $bytes);
	chmod(0755, "$INSTALLED.new") && rename("$INSTALLED.new", $INSTALLED) or failed("$INSTALLED: $!");
}

sub reload {
	my ($m) = @_;
	run($INSTALLED, 'reload', $m->{at});
	await_successor($m);
}

sub version_is {
	my ($m, $version) = @_;
	my $told = slurp_head("$m->{at}/.connectfs/version");
	$told =~ /^\S+ \Q$version\E$/ or failed("the mount is to be $version, and tells $told");
}

# What a file system without a supervisor takes. Nothing in it that waits longer than it has to.
sub restart_null {
	my ($m) = @_;
	my $pid = $m->{pid}{worker};
	kill(KILL => $pid) or failed("kill: $!");
	waitpid($pid, 0);
	delete $live{$pid};
	$pid = spawn('/dev/null', $> == 0 ? ('umount', '-l') : ('fusermount3', '-u', '-z'), $m->{at});
	waitpid($pid, 0);
	failed("$m->{at}: the dead mount stays") if $?;
	start_null($m);
}

# Without the first, which was for warming
sub waits { my (undef, @ms) = @_; my $s = spread(@ms); return { %$s, p50 => $s->{median}, p99 => quantile(0.99, @ms) } }
sub quiet_row { my ($q, %r) = @_; row(%r, unit => 'ms', quiet => $q, noisy => $q->{p99} > 2) }

# Has a worker died that nobody killed?
sub deaths_are {
	my ($m, $n) = @_;
	my ($counted) = slurp_head("$m->{at}/.connectfs/status.json") =~ /"worker_restarts":(\d+)/;
	$counted == $n or failed("$n workers were killed, and $counted have died");
}

# Once the worker has done next to nothing for a while
sub idle {
	my ($pid) = @_;
	my ($last, $now) = (-1, ticks_of($pid));
	while ($now - $last > 1) {
		sleep 0.3;
		($last, $now) = ($now, ticks_of($pid));
	}
}

my $PAUSE = 0.1; # a worker that has served for less (AT_ONCE_MS) may be replaced with a delay

sub part_i {
	my ($ours, $null) = mount_both(100);
	my ($reader, $null_reader) = (waiter('must', "$ours->{at}/c0.properties"), waiter('try', "$null->{at}/c0.properties"));
	my (@ours, @null, @quiet);
	for (0 .. $opt{restarts}) {
		push @quiet, longest($reader, sub { sleep 0.05 });
		sleep $PAUSE + rand $PAUSE;
		push @ours, longest($reader, sub { crash($ours) });
		push @null, longest($null_reader, sub { restart_null($null) });
	}
	end_waiter($_) for $reader, $null_reader;
	deaths_are($ours, scalar @ours);
	unmount($_) for $ours, $null;
	my ($o, $n, $q) = map { waits(@$_) } \@ours, \@null, \@quiet;
	my %ratio = map { $_ => $o->{$_} / $n->{$_} } qw(p50 p99);
	crash_row(100, $o, $q);
	quiet_row($q, what => '... beside a null worker\'s restart', ours => $o, null => $n, ratio => \%ratio,
	          figure => sprintf('%.2f at p50, %.2f at p99 (p50 %.1f  p99 %.1f ms)', @ratio{qw(p50 p99)}, @$n{qw(p50 p99)}));
	part_i_many() unless $opt{quick};
}

sub crash_row {
	my ($n, $o, $q) = @_;
	quiet_row($q, what => "a read over kill -9 of the worker, $n", ours => $o, connectors => $n,
	          figure => sprintf('p50 %.1f  p99 %.1f  max %.1f ms; quiet p99 %.1f', @$o{qw(p50 p99 max)}, $q->{p99}));
}

# All of them resolved before; the worker has looked at all of them again when it is killed
sub part_i_many {
	my $m = mount_ours(make_source($MANY)->{dir});
	reader('once', "$m->{at}/c%.properties:0:$MANY");
	my $reader = waiter('must', "$m->{at}/c0.properties");
	my (@ours, @quiet);
	for (0 .. $opt{restarts} / 5) {
		idle($m->{pid}{worker});
		push @quiet, longest($reader, sub { sleep 0.05 });
		push @ours, longest($reader, sub { crash($m) });
	}
	end_waiter($reader);
	deaths_are($m, scalar @ours);
	unmount($m);
	crash_row($MANY, map { waits(@$_) } \@ours, \@quiet);
}

sub part_j {
	local $INSTALLED = "$BASE/connectfs";
	my ($now, $next) = two_versions();
	install($now->[1]);
	my $m = mount_ours(make_source(100)->{dir});
	my $file = "$m->{at}/c0.properties";
	reader('once', "$m->{at}/c%.properties:0:100");
	my $reader = waiter('must', $file);
	my (@ours, @quiet);
	for (0 .. $opt{restarts}) {
		version_is($m, $now->[0]);
		($now, $next) = ($next, $now);
		install($now->[1]);
		push @quiet, longest($reader, sub { sleep 0.05 });
		push @ours, longest($reader, sub { reload($m) });
	}
	end_waiter($reader);
	version_is($m, $now->[0]);
	# The supervisor as well, as far as we may look; it becomes the new program after the reload has been told
	wait_until(10, 'the supervisor is another program still', sub { (readlink("/proc/$m->{pid}{supervisor}/exe") // '') eq $INSTALLED }) if $> == 0;
	deaths_are($m, 0);
	unmount($m);
	my ($o, $q) = map { waits(@$_) } \@ours, \@quiet;
	quiet_row($q, what => 'a read over an upgrade', ours => $o,
	          figure => sprintf('p50 %.1f  p99 %.1f  max %.1f ms; quiet p99 %.1f', @$o{qw(p50 p99 max)}, $q->{p99}));
}

# ---- Vault --------------------------------------------------------------------------------------

my ($ANSWER_MS, $CONNECTIONS, $MAX_RPS, $POLL_S) = (5, 16, 100, 30); # all but the first are defaults
my $READERS = 64;

sub start_vault_server {
	my $pid = spawn("$BASE/vault-port", $TOOL{'vault-server'}, $ANSWER_MS);
	$live{$pid} = 1;
	wait_until(10, 'the Vault server', sub { -s "$BASE/vault-port" && slurp("$BASE/vault-port") =~ /\n/ });
	return { pid => $pid, url => 'http://127.0.0.1:' . (0 + slurp("$BASE/vault-port")) };
}

sub end_process {
	my ($pid) = @_;
	ends($pid);
	kill TERM => $pid;
	gone(10, $pid) or kill(KILL => $pid), gone(5, $pid);
}

# What it was asked since before, by kind
sub asked {
	my ($server, $before) = @_;
	require HTTP::Tiny;
	my $r = HTTP::Tiny->new(timeout => 10, map { $_ => undef } qw(proxy http_proxy https_proxy))->get("$server->{url}/counts");
	$r->{success} or failed("the Vault server: $r->{status} $r->{content}");
	my $now = JSON::PP::decode_json($r->{content});
	return $before ? { map { $_ => $now->{$_} - $before->{$_} } keys %$now } : $now;
}

# Settings over n connectors, whose secrets are $of; of a Vault at a URL, with more lines
sub vault_settings {
	my ($n, $of, $url, $token, @more) = @_;
	my $dir = "$BASE/vault-$n-$of";
	if (!-d $dir) {
		mkdir $dir or die "$dir: $!\n";
		spew("$dir/c$_.properties", "value=\${vault:secret/s" . $_ % $of . ":value}\n" . config_head($_)) for 0 .. $n - 1;
	}
	spew("$BASE/vault-token", $token);
	chmod 0600, "$BASE/vault-token";
	spew("$dir.settings", join("\n", "connectfs.store.directory=$dir", 'config.providers=vault', 'config.providers.vault.class=vault',
		"config.providers.vault.param.address=$url", "config.providers.vault.param.token=$BASE/vault-token", @more) . "\n");
	return "$dir.settings";
}

sub config_head { my ($i) = @_; return "name=c$i\n" . join('', map { "some.property.name.$_=an ordinary value of number $_\n" } 0 .. 23) }

sub part_k {
	my $server = start_vault_server();
	my $bound = $MANY * $ANSWER_MS / 1000 / $CONNECTIONS;
	my (@ratio, @cpu, %minute);
	my $settings = vault_settings($MANY, $MANY, $server->{url}, 'bench');
	for my $run (0 .. List::Util::min(5, $opt{runs})) {
		my $before = asked($server);
		my $m = mount_ours($settings);
		idle($m->{pid}{worker}); # stored configs are read in the background at first
		my $cpu = ticks_of($m->{pid}{worker});
		my $seconds = reader('all', $READERS, "$m->{at}/c%.properties:0:$MANY")->{seconds};
		my $asked = asked($server, $before);
		$asked->{reads} == $MANY or failed("$MANY secrets were read $asked->{reads} times");
		asked($server)->{active_max} <= $CONNECTIONS or failed("more than $CONNECTIONS requests at a time");
		push @ratio, $seconds / $bound if $run; # the page cache is warm after the first
		push @cpu, (ticks_of($m->{pid}{worker}) - $cpu) / $ticks if $run;
		if ($run == List::Util::min(5, $opt{runs})) { %minute = idle_minute($server, $m) }
		unmount($m);
	}
	my ($r, $c) = (spread(@ratio), spread(@cpu));
	row(what => "cold resolve of $MANY secrets, $ANSWER_MS ms each", unit => 'of the bound', bound_s => $bound, ratio => $r, worker_s => $c, goal => '<= 1.2 of the bound',
	    met => met($r->{median} <= 1.2), figure => sprintf('%.2f (%.2f..%.2f) of %.3f s; worker %.2f s', @$r{qw(median min max)}, $bound, $c->{median}));
	row(what => "... and then nobody reads: requests a minute", unit => '/min', %minute, goal => '<= 60 x max.rps', met => met($minute{requests} <= 60 * $MAX_RPS),
	    figure => sprintf('%.0f of secrets, %.0f others; worker %.0f ms', @minute{qw(requests others worker_ms)}));
	part_k_shared($server);
	end_process($server->{pid});
}

# As long as it takes to look at all of them once, and after they have been looked at once
sub idle_minute {
	my ($server, $m) = @_;
	my $seconds = List::Util::max($POLL_S, $MANY / $MAX_RPS);
	sleep $seconds;
	my ($before, $cpu, $t0) = (asked($server), ticks_of($m->{pid}{worker}), time);
	sleep $seconds;
	my ($asked, $each) = (asked($server, $before), 60 / (time - $t0));
	return (requests => $each * $asked->{reads}, others => $each * List::Util::sum(@$asked{qw(mounts lookups health other)}),
		worker_ms => $each * 1000 * (ticks_of($m->{pid}{worker}) - $cpu) / $ticks);
}

sub part_k_shared {
	my ($server) = @_;
	my $before = asked($server);
	my $m = mount_ours(vault_settings($MANY, 100, $server->{url}, 'bench'));
	my $seconds = reader('all', $READERS, "$m->{at}/c%.properties:0:$MANY")->{seconds};
	my $asked = asked($server, $before);
	unmount($m);
	row(what => "$MANY connectors share 100 secrets: reads", %$asked, seconds => $seconds, goal => '100', met => met($asked->{reads} == 100),
	    figure => sprintf('%d of secrets, %d of mounts; %.2f s', @$asked{qw(reads mounts)}, $seconds));
}

# The server and a token that reads secret/, or undef. What ConnectFS::Test starts is accounted for as ours.
sub start_bao {
	require ConnectFS::Test;
	require ConnectFS::OpenBao;
	no warnings 'once'; # WHY
	my $bao = ConnectFS::OpenBao->start;
	if (!$bao) { row(what => 'OpenBao', figure => "left out: " . ($ConnectFS::OpenBao::WHY // '')); return undef }
	$live{$bao->{process}->pid} = 1;
	$bao->mount('secret', 'kv', { version => '2' });
	$bao->policy('read', 'path "secret/*" { capabilities = ["read"] }');
	return ($bao, $bao->token(policies => ['read'], ttl => '4h'));
}

# bao agent at its fastest, with a template a secret: s0, s1, … into files of these names
sub start_agent {
	my ($bao, $n) = @_;
	my $dir = "$BASE/agent-$n";
	mkdir $dir or die "$dir: $!\n";
	spew("$dir.hcl", qq(vault { address = "@{[$bao->url]}" }\nauto_auth { method { type = "token_file" config = { token_file_path = "$BASE/vault-token" } } }\n)
		. qq(template_config { static_secret_render_interval = "1s" }\n)
		. join('', map { qq(template {\n  destination = "$dir/s$_"\n  contents = "value={{ with secret \\"secret/data/s$_\\" }}{{ .Data.data.value }}{{ end }}\\n"\n}\n) } 0 .. $n - 1));
	my $t0 = time;
	my $pid = spawn("$BASE/agent-log", $bao->{bao}, 'agent', "-config=$dir.hcl", '-log-level=info');
	$live{$pid} = 1;
	# As a reader sees it
	wait_until(60, 'bao agent', sub {
		gone(0, $pid) and failed("bao agent ended:\n" . slurp("$BASE/agent-log"));
		opendir(my $d, $dir);
		my @rendered = grep { /^s\d+$/ } readdir $d;
		return @rendered == $n;
	});
	return { pid => $pid, at => $dir, seconds => time - $t0 };
}

sub follow {
	my ($file) = @_;
	pipe(my $from, my $out) or die "pipe: $!\n";
	open(my $in, '<', '/dev/null') or die;
	my $f = { from => $from, pid => spawn([$in, $out], $TOOL{reader}, 'follow', $file) };
	readline $from; # it watches
	return $f;
}

# When the text was there, in real time
sub seen {
	my ($f, $text) = @_;
	my $end = time + 60;
	while (1) {
		vec(my $from = '', fileno $f->{from}, 1) = 1;
		select($from, undef, undef, $end - time) > 0 or failed("$text did not come");
		sysread($f->{from}, $f->{lines}, 65536, length($f->{lines} // '')) or failed('the reader ended');
		while ($f->{lines} =~ s/^(.*)\n//) {
			my $e = JSON::PP::decode_json($1);
			return $e->{at} if $e->{text} eq $text;
		}
	}
}

# Both see each of the writes, at moments that know nothing of their polls
sub part_l_latency {
	my ($bao, $token) = @_;
	$bao->kv('secret/s0', { value => 'v0' });
	my $m = mount_ours(vault_settings(1, 1, $bao->url, $token, 'connectfs.poll.ms=1000'));
	reader('once', "$m->{at}/c0.properties");
	my $agent = start_agent($bao, 1);
	my @who = ([ours => follow("$m->{at}/c0.properties")], [agent => follow("$agent->{at}/s0")]);
	my %ms;
	for my $i (1 .. ($opt{quick} ? 20 : 200)) {
		sleep 0.1 + rand 1;
		$bao->kv('secret/s0', { value => "v$i" });
		my $t0 = time;
		push @{$ms{$_->[0]}}, 1000 * List::Util::max(0, seen($_->[1], "value=v$i") - $t0) for @who;
	}
	end_process($_->[1]{pid}) for @who;
	end_process($agent->{pid});
	unmount($m);
	my ($o, $a) = map { my $s = spread(@$_); +{ %$s, p50 => $s->{median}, p99 => quantile(0.99, @$_) } } @ms{qw(ours agent)};
	row(what => 'write in OpenBao to IN_MODIFY, poll 1 s', unit => 'ms', ours => $o, agent => $a, goal => 'p99 <= poll + 50 ms', met => met($o->{p99} <= 1050),
	    figure => sprintf('p50 %.0f  p99 %.0f  max %.0f; agent %.0f, %.0f, %.0f ms', @$o{qw(p50 p99 max)}, @$a{qw(p50 p99 max)}));
}

# Of what several processes share each has its part (of processes that may not be looked at: as if they shared nothing)
sub pss { my ($pid) = @_; my $t = eval { slurp("/proc/$pid/smaps_rollup") } // ''; return 0 + ($t =~ /^Pss:\s+(\d+) kB/m ? $1 : rss($pid)) }

# What they use in so many seconds, of a processor; and what they hold
sub watch_processes {
	my ($seconds, @pids) = @_;
	my ($cpu, $t0) = (List::Util::sum(map { ticks_of($_) } @pids), time);
	sleep $seconds;
	return (core => (List::Util::sum(map { ticks_of($_) } @pids) - $cpu) / $ticks / (time - $t0), kib => List::Util::sum(map { pss($_) } @pids),
		rss_kib => [map { 0 + rss($_) } @pids]);
}

# One after the other, since two clients on two processors would measure each other; the same secrets, the same server
sub part_l_many {
	my ($bao, $token) = @_;
	my ($n, $seconds) = (1000, $opt{quick} ? 10 : 30);
	$bao->kv("secret/s$_", { value => "v$_" }) for 0 .. $n - 1;
	my $t0 = time;
	my $m = mount_ours(vault_settings($n, $n, $bao->url, $token, 'connectfs.poll.ms=1000', 'connectfs.max.rps=2000'));
	reader('all', $READERS, "$m->{at}/c%.properties:0:$n");
	my $ours = { seconds => time - $t0 };
	sleep 3;
	$ours = { %$ours, watch_processes($seconds, @{$m->{pid}}{qw(worker supervisor notifier)}) };
	unmount($m);
	my $agent = start_agent($bao, $n);
	sleep 3;
	$agent = { %$agent, watch_processes($seconds, $agent->{pid}) };
	end_process($agent->{pid});
	delete $agent->{at};
	my %goal = (core => [0.25, 'processor', '%.3f of a core'], kib => [0.1, 'resident memory', '%.0f KiB'], seconds => [0.5, 'start to all readable', '%.2f s']);
	for my $what (qw(core kib seconds)) {
		my ($most, $name, $format) = @{$goal{$what}};
		my $ratio = $ours->{$what} / $agent->{$what};
		row(what => "$n secrets each second: $name", ratio => $ratio, ours => $ours, agent => $agent, goal => "<= $most of bao agent's", met => met($ratio <= $most),
		    figure => sprintf("%.2f  $format : $format", $ratio, $ours->{$what}, $agent->{$what}));
	}
}

sub part_l {
	my ($bao, $token) = start_bao();
	return unless $bao;
	part_l_latency($bao, $token);
	part_l_many($bao, $token);
	ends($bao->{process}->pid);
	$bao->stop('TERM');
}

# ---- all of it ----------------------------------------------------------------------------------

my %PART = (a => \&part_a, b => \&part_b, c => \&part_c, d => \&part_d, e => \&part_e, f => \&part_f, g => \&part_g, h => \&part_h,
            i => \&part_i, j => \&part_j, k => \&part_k, l => \&part_l);
my @parts = $opt{only} ? split(/,/, $opt{only}) : sort keys %PART;
for (@parts) { $PART{$_} or die "bench: no part \"$_\"\n" }
for (sort @parts) {
	end_both() if $_ gt 'd';
	begin($_);
	$PART{$_}->();
}
end_both();

sub first_line { my ($path, $pattern) = @_; return -r $path && slurp($path) =~ $pattern ? $1 : undef }
my ($system, undef, $release, undef, $machine) = POSIX::uname();
my %about = (
	system => "$system $release $machine", cpus => 0 + (() = slurp('/proc/cpuinfo') =~ /^processor/gm),
	cpu => first_line('/proc/cpuinfo', qr/^model name\s*:\s*(.*)$/m), load => first_line('/proc/loadavg', qr/^(\S+ \S+ \S+)/),
	runs => $opt{runs}, restarts => $opt{restarts}, quick => met($opt{quick}), time => POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime), settle_ms => $SETTLE_MS,
);
spew($opt{output}, JSON::PP->new->canonical->pretty->encode({ about => \%about, rows => \@rows }));
print "connectfs on $about{system}, $about{cpus} CPUs; ratios: median of pairs of runs (quartiles, ends)  ours : null\n\n";
printf("%-3s%-43s %-45s %-22s %s\n", '', 'what', 'figure', 'goal', 'met');
print $text, "\n$opt{output}: the same as JSON\n";
exit 0;
