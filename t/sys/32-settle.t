# Changes that come together make one rotation; a storm ends in the right content with a bounded number of touches.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "k=0\n");
spew("$src/a.properties", "k=\${file:$S:k}\n");

# A settle time of 1 s
my $m = mount_fs(source => $src, settings => { 'connectfs.settle.ms' => 1000 });
my $f = $m->path('a.properties');
read_is($f, "k=0\n", 'read');
my $w = watch($f);
my $t0 = time;
for my $i (1 .. 3) { replace($S, "k=$i\n"); sleep 0.2 }
ok($w->await('ATTRIB', 5), 'three changes within the settle time');
my ($first) = $w->drain(0.4);
cmp_ok($first->{time} - $t0, '>=', 0.8, '… are announced at its end');
is($m->attr('a.properties', 'version'), 1, '… as one rotation');
is($m->stat('a.properties')->{size}, 4, '… with the true size');
read_is($f, "k=3\n", '… and the last value');

# An open that finds a change publishes it at once
$w->clear;
my $mtime = stx($f)->{mtime_ns};
$t0 = time;
replace($S, "k=now\n");
read_is($f, "k=now\n", 'an open within the settle time gets the new value at once');
cmp_ok(time - $t0, '<', patience(0.7), '… without waiting for it');
ok($w->await('ATTRIB', 5), '… the touch follows');
is(ConnectFS::Watcher::text($f, $w->drain(1.2)), 'MODIFY ATTRIB', '… once');
cmp_ok(stx($f)->{mtime_ns}, '>', $mtime, '… with a new mtime');

# The window is fixed from the first change, never extended
$w->clear;
$t0 = time;
my $i = 0;
while (time - $t0 < 3.2) { replace($S, 'k=w' . ++$i . "\n"); sleep 0.1; $w->poll }
my @events = grep { $_->{event} eq 'MODIFY' } $w->drain(1.3);
cmp_ok(scalar @events, '>=', 2, 'changes without end are announced all the same');
cmp_ok(scalar @events, '<=', 6, '… once a settle time');
cmp_ok($events[0]{time} - $t0, '<', patience(2), '… the first in time') if @events;
read_is($f, "k=w$i\n", '… and the last is right');
ok($m->stop, 'ends');

# 1,000 changes a second for 2 s, by rename and in place
my $rotate = cc_helper('rotate');
spew("$src/orders.properties", join '', map { "$_\n" } 'name=orders', "first=\${file:$S:version}", "a=\${file:$S:a}", "b=\${file:$S:b}", "last=\${file:$S:end}");
my %how = (rename => 'renamed over', inplace => 'in place');
for my $how (sort keys %how) {
	run($rotate, $S, 1000, $how, 0.002);
	my $m = mount_fs(source => $src);
	my $f = $m->path('orders.properties');
	slurp($f);
	my $w = watch($f);
	my $mtime = stx($f)->{mtime_ns};
	my $r = run($rotate, $S, 1000, $how, 2);
	my ($last) = $r->{out} =~ /^last (\d+)/;
	cmp_ok($last, '>=', 1500, "storm, $how{$how}: about 2,000 changes in 2 s ($r->{seconds} s)");
	my $settled = eventually(sub { $m->stat('orders.properties')->{size} == length("name=orders\nfirst=$last\na=$last-\nb=$last\nlast=$last\n") + ($last * 37) % 3000 }, 5, '… the size settles at the last');
	my @events = $w->drain(0.4);
	my $touches = grep { $_->{event} eq 'MODIFY' } @events;
	my $bound = $r->{seconds} / 0.020 + 10;
	cmp_ok($touches, '>=', 2, '… it was announced while it went on');
	cmp_ok($touches, '<=', $bound, sprintf '… by no more touches than one a settle time (%d, at most %d)', $touches, $bound);
	like(slurp($f), qr/^first=$last$/m, '… and the last is right');
	my $sum = $m->metric('connectfs_rotations_total');
	cmp_ok($sum, '<=', $bound + 5, "… $sum rotations counted") if defined $sum;
	cmp_ok(stx($f)->{mtime_ns}, '>', $mtime, '… mtime has gone up');
	always_within(sub { !$w->poll }, 0.5, '… then it is quiet');
	ok($m->stop, '… ends');
}

done_testing;
