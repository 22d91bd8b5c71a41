# Whoever can enter the mount can't fill the worker's memory through its control files.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Time::HiRes ();
use ConnectFS::Test;

need_fuse();
need_root('allow_other, and other users');

my $src = tmp_dir();
my $n = 3000;
spew("$src/connector-with-a-name-of-some-length-$_.properties", "a=$_\n") for 1 .. $n;
chmod 0711, base_dir();
my $m = mount_fs(source => $src, options => 'allow_other');
eventually(sub { @{$m->status->{connectors}} == $n }, 20, "$n connectors");
my $begin = Time::HiRes::time;
my $size = length slurp($m->control('status.json'));
my $took = Time::HiRes::time - $begin; # strangers share it for ten times as long
sub memory { slurp('/proc/' . $m->pid('worker') . '/status') =~ /^VmRSS:\s+(\d+) kB/m ? $1 * 1024 : die }

# Opens FILE N times with a pause, holds them: "ok errno errno…", sorted
my $many = 'my %n; my ($f, $n, $pause) = @ARGV; for (1 .. $n) { if (open my $h, "<", $f) { push @h, $h; $n{ok}++ } else { $n{$! + 0}++ }'
	. ' select undef, undef, undef, $pause if $pause } print join(" ", map { "$_=$n{$_}" } sort keys %n), "\n"; $| = 1; print ""; sleep 60';
sub hold { my ($user, @args) = @_; my @cmd = ('perl', '-e', $many =~ s/my %n;/\$| = 1; my %n;/r, @args); return start($user ? as_user($user, $user, @cmd) : @cmd) }
sub told { my ($p) = @_; eventually(sub { $p->output =~ /\n/ }, 60); return $p->output =~ /^(.*)\n/ ? $1 : $p->errors }

my $before = memory();
my $burst = hold(12345, $m->control('status.json'), 500, 0);
like(told($burst), qr/^(?:11=\d+ )?ok=\d+$/, 'a stranger opens the status 500 times');
# (AddressSanitizer keeps freed memory for a while)
my $room = ($ENV{ASAN_OPTIONS} ? 64 : 16) * 1024 * 1024;
cmp_ok(memory() - $before, '<', 12 * $size + $room, '… which costs the memory of a few');
my $slow = hold(12346, $m->control('status.json'), 20, 0.15 + 12 * $took);
my ($refused, $opened) = told($slow) =~ /^11=(\d+) ok=(\d+)$/;
cmp_ok($opened // 99, '<=', 8, 'another opens it time after time, and holds it: eight at most are alive');
cmp_ok($refused // 0, '>=', 12, '… then EAGAIN');
is(run(as_user(12347, 12347), 'cat', $m->control('metrics'))->{status}, 0, '… the other file can be read');
ok(eval { $m->status }, '… and the owner can read this one') or diag $@;
$_->signal('KILL') for $burst, $slow;
eventually(sub { run(as_user(12347, 12347), 'cat', $m->control('status.json'))->{status} == 0 }, 5, '… when they are gone, strangers can again');
my $own = hold(0, $m->control('metrics'), 200, 0);
is(told($own), '11=136 ok=64', 'also the owner may hold 64 of them, no more');
$own->signal('KILL');

# The same line again and again is one line
my $t0 = time;
spew($m->control('refresh'), "*\n" x 30000);
ok(eval { $m->status }, '30,000 times "*" in one write');
cmp_ok(time - $t0, '<', patience(10), '… block nobody');
isnt(run('sh', '-c', 'yes nobody | head -n 1000 >"$0"', $m->control('refresh'))->{status}, 0, '… an unknown name is an error all the same');
ok($m->stop, 'ends');
unlike($m->log, qr/level=error|Sanitizer|died/, '… well');

# A status that takes long is not made again and again for strangers: how often is told by the age of a secret in it
my $long = tmp_dir();
my $sec = tmp_dir();
spew("$sec/s.properties", "k=v\n");
spew("$long/a.properties", "a=\${file:$sec/s.properties:k}\n");
spew("$long/c$_.properties", join '', map { "k$_=\${file:$sec/a-path-of-some-length-$_:k}\n" } 1 .. 100) for 1 .. 3000;
$m = mount_fs(source => $long, options => 'allow_other');
read_is($m->path('a.properties'), "a=v\n", 'a secret is fetched');
eventually(sub { my ($c) = grep { $_->{name} eq 'c3000.properties' } @{$m->status->{connectors}}; @{$c->{secrets}} == 100 }, 60);
my $count = 'my ($f, $end, %n) = ($ARGV[0], time + 3); while (time < $end) { open my $h, "<", $f or next; local $/; $n{$1}++ if <$h> =~ /"age_ms":(\d+)/ }'
	. ' print scalar keys %n, "\n"';
my $made = run(as_user(12345, 12345, 'perl', '-MTime::HiRes=time', '-e', $count, $m->control('status.json')), { timeout => 60 })->{out};
cmp_ok($made, '>=', 1, 'a stranger opens a long status again and again');
cmp_ok($made, '<=', 6, '… which takes a tenth of the time, not all of it');
ok($m->stop, 'ends');
done_testing;
