# A reload that comes while one is under way: it follows, with what is installed and set by then, and is waited for.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

# Two programs that differ in their version only
my $d = tmp_dir();
my ($version, $bytes, $other, $patched) = two_programs();
sub install { install_program("$d/connectfs", @_) }
install($bytes);

# Settings that a new worker waits for as long as we like: they lie in another mount
mkdir "$d/stored";
spew("$d/stored/orders.properties", "k=v\n");
my $s = slow_setup({ 'connectfs.properties' => "connectfs.store.directory=$d/stored\nconnectfs.mode=\${slow:mode:k}\n" }, 'connectfs.fresh.ms' => 0);
my $mode = '0400';
sub hold { slow_set($s, 'mode', "k=$mode", 'hold=1') }
sub release { ($mode) = @_; slow_set($s, 'mode', "k=$mode") }
release($mode);
my $far = mount_fs(slow => 1, source => $s->{settings}, settings => { 'connectfs.wait.ms' => 60_000 });
my $m = mount_fs(program => "$d/connectfs", source => $far->path('connectfs.properties'));
sub reload { return start(program(), 'reload', $m->dir) }
sub reloaded { return scalar $m->log_lines(qr/msg=reloaded/) }

# The first one begins with the old program
hold();
my $first = reload();
ok(eventually(sub { $far->status->{parked} == 1 }, 5), 'a reload is under way');
install($patched);
my @later = map { reload() } 1 .. 3;
ok(eventually(sub { $m->log_lines(qr/another reload is to follow/) }, 5), 'others come meanwhile');
sleep 0.2;
is(scalar(grep { $_->ended } $first, @later), 0, '… and wait');
release('0440');
my $r = $first->finish(patience(20));
is($r->{status}, 0, 'it is done') or diag $r->{err};
for my $p (@later) {
	$r = $p->finish(patience(20));
	is($r->{status}, 0, '… so are the others') or diag $r->{err};
}
is($m->status->{version}, $other, '… by the program that was installed when they came');
is(stx($m->path('orders.properties'))->{mode}, 0440, '… with its settings');
is(reloaded(), 2, '… one for all of them');

# One that fails is followed as well, and each is told of a failure
hold();
$first = reload();
ok(eventually(sub { $far->status->{parked} == 1 }, 5), 'another one that fails');
install("#!/bin/sh\nexit 0\n");
my $later = reload();
ok(eventually(sub { scalar($m->log_lines(qr/another reload is to follow/)) >= 2 }, 5), '… and one after it');
release('nonsense');
is($first->finish(patience(20))->{status}, 2, '… is told so');
$r = $later->finish(patience(20));
is($r->{status}, 2, '… the one after it by its own answer');
like($r->{err}, qr/ended before it was ready/, '… which says what is wrong with that');
install($bytes);
release('0400');
is(reload()->finish(patience(20))->{status}, 0, 'then one that is right');
is($m->status->{version}, $version, '… is in force');

# At each moment of another
my (@all, %told);
for (1 .. scale(40)) {
	push @all, reload();
	sleep rand 0.03;
}
$told{$_->finish(patience(60))->{status}}++ for @all;
is_deeply([keys %told], [0], 'many at any moment of others: none is turned away') or diag explain \%told;
ok($m->stop, 'ends');
ok($far->stop, '… and the other mount');
done_testing;
