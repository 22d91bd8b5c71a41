# The worker is killed at each place in turn where it writes to what its successor goes on with (base/fault.h).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

my $src = tmp_dir();
my $S = tmp_dir() . '/s.properties';
my $faults = tmp_dir() . '/faults';

# As rotate.c has it
my $version = 0;
sub rotate {
	my $v = ++$version;
	replace($S, "version=$v\na=$v-" . 'x' x ($v * 37 % 3000) . "\nb=$v\nend=$v\n");
}
sub version_of {
	my ($text) = @_;
	my ($v, $a, $x, $b, $e) = $text =~ /\Aname=orders\nfirst=(\d+)\na=(\d+)-(x*)\nb=(\d+)\nlast=(\d+)\n\z/ or return undef;
	return $v == $a && $v == $b && $v == $e && length $x == $v * 37 % 3000 ? $v : undef;
}

# ---- where to die ----

sub faults {
	sysopen(my $f, $faults, O_RDONLY) or die "$faults: $!";
	sysread($f, my $bytes, 16);
	return unpack 'q q', $bytes;
}
sub left { return (faults())[0] }
sub passed { return (faults())[1] }
sub die_in { my ($n) = @_; sysopen(my $f, $faults, O_WRONLY) or die "$faults: $!"; syswrite($f, pack 'q', $n) }
spew($faults, pack 'q q', 0, 0);

rotate();
spew("$src/orders.properties", join '', map { "$_\n" } 'name=orders', "first=\${file:$S:version}", "a=\${file:$S:a}", "b=\${file:$S:b}", "last=\${file:$S:end}");
spew("$src/$_.properties", "name=$_\nk=\${file:$S:b}\n") for qw(a b);
my $m = mount_fs(program => test_program(), source => $src, env => { CONNECTFS_FAULT => $faults });
my $f = $m->path('orders.properties');
is(version_of(slurp($f)), 1, 'read');
slurp($m->path("$_.properties")) for qw(a b);
cmp_ok(passed(), '>', 0, 'places are passed');

# Opened before the first death
open(my $held, '<:raw', $f) or die "$f: $!";
my $held_bytes = slurp($f);
sub held_is_as_it_was {
	my $bytes = '';
	my $at = int rand length $held_bytes;
	sysseek($held, $at, 0);
	while (1) {
		my $n = sysread($held, $bytes, 1 + int rand 40, length $bytes) // return "read: $!";
		last if !$n;
	}
	return $bytes eq substr($held_bytes, $at) ? '' : "from $at on: $bytes";
}

# ---- what a watcher sees ----

my $watch = watch($f);
my $seen = 1;
my $mtime = stx($f)->{mtime_ns};
my @wrong;
sub wrong { my ($what) = @_; push @wrong, $what if @wrong < 10; return }

sub look {
	my ($text, $errno) = slurp_errno($f);
	return wrong('a read failed: ' . errno_name($errno)) if defined $errno;
	my $v = version_of($text) // return wrong("mixed: $text");
	return wrong("back from version $seen to $v") if $v < $seen;
	$seen = $v;
}
sub look_at_mtime {
	my $now = (stx($f) // return wrong("stat: $!"))->{mtime_ns};
	wrong("mtime went back from $mtime to $now") if $now < $mtime;
	$mtime = $now;
}

# Reads only after an event, as a sidecar does; until it has seen the last version
sub await_last {
	my ($what) = @_;
	my $end = time + patience(15);
	while ($seen < $version) {
		if ($watch->poll) { $watch->clear; look(); look_at_mtime() }
		elsif (time > $end) { wrong("$what: version $version is not announced (seen: $seen)"); $seen = $version; return }
		else { sleep 0.001 }
	}
}

sub check {
	my ($what) = @_;
	await_last($what);
	look();
	look_at_mtime();
	my $differs = held_is_as_it_was();
	wrong("$what: the file held open: $differs") if $differs;
}
sub all_well { my ($what) = @_; is(join("\n", splice @wrong), '', $what) or diag $m->log }

my $deaths = 0;
# Has it died since die_in? Then its successor shall not be the second at once, who would be kept waiting.
sub died {
	return 0 if left() > 0;
	$deaths++;
	sleep 0.06;
	return 1;
}

# ---- each step of a rotation and a read, one after the other ----

# All of them where they are few, else the first ones and as many others as there is time for
sub sample {
	my ($n, $first, $others) = @_;
	my %at = map { $_ => 1 } grep { $_ <= $n } 1 .. $first, map { 1 + int rand $n } 1 .. $others;
	my @at = sort { $a <=> $b } keys %at;
	my $few = scale(scalar @at);
	return grep { rand(@at) < $few } @at;
}

sub rotate_and_read {
	rotate();
	await_last('a rotation');
	slurp_errno($m->path("$_.properties")) for qw(a b);
}
rotate_and_read();
sleep 0.1; # what comes after
my $before = passed();
rotate_and_read();
sleep 0.1;
my $steps = passed() - $before;
cmp_ok($steps, '>', 20, "a rotation and its reads pass $steps places");
my $died = 0;
for my $n (sample($steps, 50, 80)) {
	die_in($n);
	rotate_and_read();
	$died += died();
	die_in(0);
	check("step $n of a rotation");
}
die_in(0);
all_well("dead at $died of them: no read fails, none is mixed, versions and mtime only go up, each rotation is announced");

# ---- each step of taking over ----

# What a successor passes until it serves. The old worker is stopped meanwhile: it is not to pass any.
sub succeed_dying {
	my ($steps) = @_;
	my $worker = $m->worker_now // return wrong('no worker');
	kill STOP => $worker;
	rotate() if rand() < 0.5;
	die_in($steps);
	kill KILL => $worker;
	look();
}
$before = passed();
succeed_dying(0);
check('a death without a step');
sleep 0.06;
$steps = passed() - $before;
cmp_ok($steps, '>', 10, "taking over passes places: $steps");
my @at = sample($steps, 40, 60);
$died = 0;
for my $at (@at) {
	succeed_dying($at);
	check("step $at of taking over");
	$died += died();
	die_in(0);
}
die_in(0);
all_well("dead at $died of them: the same holds");

# ---- under load ----

my $reader = cc_helper('reader');
my $rotate = cc_helper('rotate');
my @readers = map { start($reader, $f, 1_000_000_000, $_) } qw(plain small fstat small);
for my $round (1 .. scale(60)) {
	die_in(1 + int rand($round % 4 ? 2000 : 60));
	my $end = time + patience(10);
	while (left() > 0 && time < $end) {
		rotate() if rand() < 0.1;
		look();
		look_at_mtime();
	}
	wrong('nobody dies') if !died();
	check("death $deaths under load") if $round % 5 == 0;
}
die_in(0);
check('at the end');
$_->signal('TERM') for @readers;
for my $r (map { $_->finish(patience(30)) } @readers) {
	like($r->{out}, qr/^ok \d+ /, 'a reader beside: each read one whole version, versions only go up') or diag $r->{out} . $r->{err};
}
all_well('dead at random places under load: the same holds');

# ---- at the end ----

is(version_of(slurp($f)), $version, "after $deaths deaths the last version is right");
is($m->attr('orders.properties', 'state'), 'ok', '… all is well');
my $left = eventually(sub { my $s = $m->status; $s->{open_files} <= 2 && $s->{parked} == 0 }, 5);
ok($left, '… no descriptor and no parked open is left') or diag "open files: " . $m->status->{open_files};
my @complaints = grep { !/msg="the worker died|notifier|a protection is not in force|was not announced/ } $m->log_lines(qr/level=(?:warn|error)/);
is(scalar @complaints, 0, '… no other complaint in the log') or diag join "\n", splice @complaints, 0, 4;
close $held;
ok($m->stop, '… ends');

done_testing;
