# A reader never notices: the worker is killed again and again under readers and rotations.
# CONNECTFS_KILLS=10000 makes it a soak test.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $rotate = cc_helper('rotate');
my $steady = cc_helper('steady');
my $python = find_tool('python3');

# Kills $n of them, with pauses of up to $pause seconds: some while they start, some while they serve, on slow machines too
sub kill_often {
	my ($m, $n, $pause, $sig) = @_;
	my ($killed, $last, $end) = (0, 0, time + patience(60 + $n));
	while ($killed < $n && time < $end) {
		select undef, undef, undef, rand(patience($pause));
		my $pid = $m->worker_now or next;
		next if $pid == $last; # not gone yet
		$killed += kill $sig // 'KILL' => $pid;
		$last = $pid;
	}
	return $killed;
}

# What must be the same before and after. All threads and pages that it ever needs it has by then
sub footprint {
	my ($m) = @_;
	my $s = $m->status;
	my %is = (open_files => $s->{open_files}, parked => $s->{parked}, keep => $s->{keep}{used}, blocks => $s->{keep}{blocks});
	for my $role (qw(supervisor worker)) {
		my $pid = $m->pids->{$role};
		# The least of some counts: files are being read now and then
		my @counts = sort { $a <=> $b } map { select undef, undef, undef, 0.02; scalar @{ls_names("/proc/$pid/fd") // []} } is_root() ? 1 .. 7 : ();
		$is{"$role fds"} = $counts[0];
		($is{"$role locked"}) = slurp("/proc/$pid/status") =~ /^VmLck:\s+(\d+)/m;
	}
	my $all = ConnectFS::Guard::processes();
	$is{zombies} = grep { $all->{$_}[0] == $m->pid('supervisor') && ConnectFS::Mount::process_gone($_) } keys %$all;
	return \%is;
}

sub config { my ($of) = @_; return join '', map { "$_\n" } 'name=orders', map { "$_->[0]=\${$of:$_->[1]}" } ['first', 'version'], ['a', 'a'], ['b', 'b'], ['last', 'end'] }

sub storm {
	my ($what, %o) = @_;
	my $stop = tmp_dir() . '/stop';
	my $S = $o{secret};
	run($rotate, $S, 1000, 'rename', 0.001); # version 1
	my $m = mount_fs(%{$o{mount}});
	my $f = $m->path('orders.properties');
	my $old = slurp($f);
	open(my $held, '<:raw', $f) or die;
	open(my $status, '<:raw', $m->control('status.json')) or die;
	sysread $status, my $json, 100;
	open(my $refresh, '>', $m->control('refresh')) or die;
	my $w = watch($f);
	my @readers = map { start(@$_) } ((map { [$steady, $f, $stop, $_] } 1 .. 4), (map { $python ? [$python, helper_path('steady.py'), $f, $stop, $_] : [$steady, $f, $stop, $_] } 5 .. 8));
	my $writer = start($rotate, $S, $o{every}, 'rename');
	eventually(sub { slurp($f) ne $old }, 5);
	my $first = kill_often($m, 5, 0.05);
	my $before = footprint($m);
	my $killed = kill_often($m, $o{kills}, $o{pause});
	is($killed, $o{kills}, "$what: killed $killed times");
	ok(eventually(sub { $m->status->{worker_restarts} >= $first + $killed }, 5), '… each had a successor');
	$writer->signal('TERM');
	my $r = $writer->finish(10);
	my ($final) = $r->{out} =~ /^last (\d+)/;
	eventually(sub { slurp($f) =~ /^last=$final$/m }, 5);
	spew($stop, '');
	for my $p (@readers) {
		my $r = $p->finish(patience(20));
		like($r->{out}, qr/^ok [1-9]\d* /, '… no reader sees an error or a mix: ' . ($r->{out} =~ /^(ok \d+)/)[0]) or diag $r->{out} . $r->{err};
	}
	like(slurp($f), qr/^first=$final\n.*^last=$final\n\z/ms, "… the last version is right ($final rotations)");
	my $mtime = stx($f)->{mtime};
	seek $held, 0, 0;
	is(do { local $/; <$held> }, $old, '… a file that was opened before the first death has its own bytes after the last');
	close $held;
	1 while sysread $status, $json, 4096, length $json;
	is((eval { JSON::PP->new->utf8->decode($json) } // {})->{worker_restarts}, 0, '… and so is a control file read to its end');
	ok(defined syswrite($refresh, "orders\n"), '… or written') or diag $!;
	close $_ for $status, $refresh;
	ok(eventually(sub { $m->attr('orders.properties', 'state') eq 'ok' }, 5), '… all is well');
	ok(eventually(sub { my $s = $m->status; $s->{open_files} == 0 && $s->{parked} == 0 }, 5), '… no descriptor is left') or diag explain [$m->status->{open_files}, $m->status->{parked}];
	# A touch that was due has been made: nothing comes any more, and the next rotation's comes
	$w->drain(0.3);
	run($rotate, $S, 1000, 'rename', 0.001);
	ok($w->await('ATTRIB', 5), '… the next rotation is announced');
	open(my $again, '<:raw', $f) or die; # as at the first count
	my $after = footprint($m);
	close $again;
	$before->{$_} = $after->{$_} for qw(open_files parked); # the readers' own
	$before->{blocks} -= $before->{blocks} - $after->{blocks} if $before->{blocks} > $after->{blocks}; # theirs too
	is($after->{$_}, $before->{$_}, "… $_ as before") for grep { !/keep|blocks/ } sort keys %$after;
	cmp_ok($after->{keep}, '<=', $before->{keep}, '… no more in the keep than before');
	# (on a machine that is too busy a notifier may not come within its second; the log says so, as it should)
	my @complaints = grep { !/the worker died|notifier|serving|a protection is not in force|was not announced/ } $m->log_lines(qr/level=(?:warn|error)/);
	is(scalar @complaints, 0, '… no other complaint in the log') or diag join "\n", splice @complaints, 0, 4;
	ok($m->stop, '… ends');
}

my $kills = $ENV{CONNECTFS_KILLS} || scale(200);
my $src = tmp_dir();
my $S = tmp_dir() . '/s.properties';
spew("$src/orders.properties", config("file:$S"));
storm('under 8 readers', mount => { source => $src }, secret => $S, every => 50_000, kills => $kills, pause => 0.09);

# A provider that takes its time: opens are parked when the worker dies
SKIP: {
	skip 'no ' . test_program() . ' (make check builds it)', 1 unless -x test_program();
	my $p = slow_setup({ 'orders.properties' => config('slow:s') }, 'config.providers.slow.param.delay.ms' => 300,
		'connectfs.fresh.ms' => 100, 'connectfs.poll.ms' => 1000);
	storm('with a provider that answers after 300 ms', mount => { slow => 1, source => $p->{settings} },
		secret => "$p->{control}/s", every => 200_000, kills => int($kills / 5) || 1, pause => 0.6);
}
done_testing;
