# Readers in C, Python and Node while a secret rotates each millisecond (done-when 3 of the issue).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $rotate = cc_helper('rotate');
my $reader = cc_helper('reader');
my $python = find_tool('python3');
my $node = find_tool('node');

sub race {
	my ($what, $how, $us, @readers) = @_;
	my $src = tmp_dir();
	my $sec = tmp_dir();
	my $S = "$sec/s.properties";
	spew("$src/orders.properties", join '', map { "$_\n" } 'name=orders', "first=\${file:$S:version}", "a=\${file:$S:a}", "b=\${file:$S:b}", "last=\${file:$S:end}");
	run($rotate, $S, 1000, $how, 0.001); # version 1
	my $m = mount_fs(source => $src);
	my $f = $m->path('orders.properties');
	slurp($f);
	my $writer = start($rotate, $S, $us, $how);
	my $t0 = time;
	my @running = map { my @c = @$_; $c[1] eq 'C' ? start($reader, $f, $c[0], $c[2]) : start(@c[1 .. $#c], $f, $c[0]) } @readers;
	my $opens = 0;
	for my $i (0 .. $#running) {
		my $r = $running[$i]->finish(patience(120));
		my ($n, $first, $last) = $r->{out} =~ /^ok (\d+) first (\d+) last (\d+)$/m;
		my @c = @{$readers[$i]};
		(my $name = join ' ', map { basename($_) } @c[1 .. $#c]) =~ s/\.\w+$//;
		ok(defined $n && $n == $c[0], "$what, $name: $c[0] reads, each one whole version, versions only go up") or diag $r->{out} . $r->{err};
		$opens += $n // 0;
		cmp_ok($last - $first, '>=', 3, '… and there were several') if defined $n && $n > 1000;
	}
	my $seconds = time - $t0;
	$writer->signal('TERM');
	my $r = $writer->finish(10);
	my ($final) = $r->{out} =~ /^last (\d+)/;
	ok($final, sprintf '%s: %d opens in %.1f s, %d rotations', $what, $opens, $seconds, $final // 0) or diag $r->{err};
	like(slurp($f), qr/^first=$final\n.*^last=$final\n\z/ms, '… the last is right');
	is($m->attr('orders.properties', 'state'), 'ok', '… and all is well');
	my @complaints = $m->log_lines(qr/level=(?:warn|error)/);
	is(scalar @complaints, 0, '… no complaint in the log') or diag join "\n", splice @complaints, 0, 4;
	my $opened = eventually(sub { my $s = $m->status; $s->{open_files} <= 1 && $s->{parked} == 0 }, 3);
	ok($opened, '… no descriptor and no parked open is left');
	ok($m->stop, '… ends');
	return $opens;
}

my @readers = ([scale(20_000), 'C', 'plain'], [scale(20_000), 'C', 'plain'], [scale(20_000), 'C', 'fstat'], [scale(12_000), 'C', 'small']);
push @readers, $python ? ([scale(8_000), $python, helper_path('reader.py')]) x 2 : ([scale(8_000), 'C', 'plain']) x 2;
push @readers, $node ? ([scale(6_000), $node, helper_path('reader.js')]) x 2 : ([scale(6_000), 'C', 'fstat']) x 2;
my $opens = race('renamed over every ms', 'rename', 1000, @readers);
cmp_ok($opens, '>=', scale(100_000), scale(100_000) . ' opens and more');

race('in place every ms', 'inplace', 1000, [scale(5_000), 'C', 'plain'], [scale(5_000), 'C', 'fstat'],
	$node ? [scale(1_500), $node, helper_path('reader.js')] : ());
# Copies by sendfile(2), which goes through the page cache where the kernel's splice does (since 6.5)
if ($python) {
	my $src = tmp_dir();
	my $S = tmp_dir() . '/s.properties';
	spew("$src/orders.properties", join '', map { "$_\n" } 'name=orders', "first=\${file:$S:version}", "a=\${file:$S:a}", "b=\${file:$S:b}", "last=\${file:$S:end}");
	run($rotate, $S, 1000, 'rename', 0.001);
	my $m = mount_fs(source => $src);
	my $writer = start($rotate, $S, 1000, 'rename');
	my @copiers = map { start($python, helper_path('copier.py'), scale(1500), base_dir() . "/copy$_", $m->path('orders.properties')) } 1 .. 4;
	for my $p (@copiers) {
		my $r = $p->finish(patience(60));
		like($r->{out}, qr/^ok /, 'shutil.copyfile: each copy one whole version') or diag $r->{out} . $r->{err};
	}
	$writer->signal('TERM');
	$writer->finish(10);
	ok($m->stop, '… ends');
}
race('renamed over as fast as it goes', 'rename', 0, [scale(5_000), 'C', 'plain'], [scale(5_000), 'C', 'fstat']);

done_testing;
