# An upgrade and new settings: nobody notices; a bad program and bad settings: nothing has happened.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $rotate = cc_helper('rotate');
my $steady = cc_helper('steady');
my $python = find_tool('python3');

# Two programs that differ in their version only
my $d = tmp_dir();
my ($version, $bytes, $other, $patched) = two_programs();
sub install { install_program("$d/connectfs", @_) }
install($bytes);

my $S = "$d/s.properties";
my $stop = "$d/stop";
mkdir "$d/stored";
spew("$d/stored/orders.properties", join '', map { "$_\n" } 'name=orders', map { "$_->[0]=\${file:$S:$_->[1]}" } ['first', 'version'], ['a', 'a'], ['b', 'b'], ['last', 'end']);
my %settings = ('config.providers' => 'file', 'config.providers.file.class' => 'file', 'connectfs.store.directory' => "$d/stored");
my $settings = settings_file("$d/connectfs.properties", %settings);
run($rotate, $S, 1000, 'rename', 0.001);
my $m = mount_fs(program => "$d/connectfs", source => "$d/connectfs.properties");
my $f = $m->path('orders.properties');
my $old = slurp($f);
open(my $held, '<:raw', $f) or die;
sub reload { return run("$d/connectfs", 'reload', $m->dir) }
my %first = %{$m->pids};

my @readers = map { start(@$_) } ((map { [$steady, $f, $stop, $_] } 1 .. 4), (map { $python ? [$python, helper_path('steady.py'), $f, $stop, $_] : [$steady, $f, $stop, $_] } 5 .. 8));
my $writer = start($rotate, $S, 50_000, 'rename');
my ($good, %seen) = (0);
my $n = scale(50);
for my $i (1 .. $n) {
	install($i % 2 ? $patched : $bytes);
	my $r = reload();
	$good++ if $r->{status} == 0;
	diag $r->{err} if $r->{status};
	my $s = $m->status;
	$seen{$s->{version}}++;
	is($s->{supervisor}, $first{supervisor}, 'the supervisor is the same process') if $i == 1 || $i == $n;
}
is($good, $n, "$n upgrades");
is(join(' ', sort keys %seen), join(' ', sort $version, $n > 1 ? $other : ()), '… by two versions in turn') if $n > 1;
ok(eventually(sub { my $p = $m->pids; $p->{notifier} > 1 && $p->{notifier} != $first{notifier} }, 5), '… with notifiers of their own');
my $exe = is_root() ? readlink "/proc/$first{supervisor}/exe" : '';
unlike($exe, qr/deleted/, '… the supervisor runs the program that is installed') if is_root();
my $watches = () = is_root() ? map { (readlink("/proc/$first{supervisor}/fd/$_") // '') =~ /inotify/g } @{ls_names("/proc/$first{supervisor}/fd")} : 1;
is($watches, 1, "… and holds one worker's watches");

# What is bad
my %before = %{$m->pids};
my $bad = 0;
for my $i (1 .. scale(20)) {
	settings_file("$d/connectfs.properties", %settings, 'connectfs.wait.ms' => "no number $i");
	my $r = reload();
	$bad++ if $r->{status} == 2 && $r->{err} =~ /connectfs\.properties:\d+: connectfs\.wait\.ms/;
	diag $r->{status}, $r->{err} if $i == 1 && !$bad;
}
is($bad, scale(20), 'bad settings: refused, with the file, the line and the key');
settings_file("$d/connectfs.properties", %settings);
install("#!/bin/sh\nexit 0\n");
my $r = run(program(), 'reload', $m->dir);
is($r->{status}, 2, 'a program that is none of ours: refused');
like($r->{err}, qr/ended before it was ready/, '… it says why');
unlink "$d/connectfs";
$r = run(program(), 'reload', $m->dir);
is($r->{status}, 2, 'no program: refused');
like($r->{err}, qr/No such file/, '… it says why');
is($m->pids->{worker}, $before{worker}, 'the worker that ran goes on');
install($bytes);

# Settings that are new
settings_file("$d/connectfs.properties", %settings, 'connectfs.mode' => '0440');
is(reload()->{status}, 0, 'new settings');
is((stx($f)->{mode}) & 07777, 0440, '… are in force');

$writer->signal('TERM');
my ($final) = $writer->finish(10)->{out} =~ /^last (\d+)/;
eventually(sub { slurp($f) =~ /^last=$final$/m }, 5);
spew($stop, '');
for my $p (@readers) {
	my $r = $p->finish(patience(20));
	like($r->{out}, qr/^ok [1-9]\d* /, 'no reader has noticed: ' . ($r->{out} =~ /^(ok \d+)/)[0]) or diag $r->{out} . $r->{err};
}
like(slurp($f), qr/^first=$final\n.*^last=$final\n\z/ms, '… the last version is right');
is(do { local $/; <$held> }, $old, '… a file that was opened before all of it reads its own bytes');
close $held;
my $w = watch($f);
run($rotate, $S, 1000, 'rename', 0.001);
ok($w->await('ATTRIB', 5), '… rotations are announced');
ok(eventually(sub { my $s = $m->status; $s->{open_files} == 0 && $s->{parked} == 0 }, 5), '… no descriptor is left');
stx($f); # kept by the kernel
settings_file("$d/connectfs.properties", %settings, 'connectfs.mode' => '0444');
is(reload()->{status}, 0, 'new settings, and nothing that rotates');
is((stx($f)->{mode}) & 07777, 0444, '… are seen at once');
my @many = map { "many$_.properties" } 1 .. 600; # the kernel is told of some at a time
spew("$d/stored/$_", "name=$_\n") for @many;
ok(eventually(sub { !grep { !-e $m->path($_) } @many }, 20), 'many connectors');
slurp($m->path($_)), stx($m->path($_)) for @many; # kept by the kernel
settings_file("$d/connectfs.properties", %settings, 'connectfs.mode' => '0440');
is(reload()->{status}, 0, '… new settings');
is(scalar(grep { (stx($m->path($_))->{mode} & 07777) != 0440 } @many), 0, '… are seen at once of all');
is(run(program(), 'reload', tmp_dir())->{status}, 1, 'a directory that is no mount');
is(run(program(), 'reload')->{status}, 2, 'no directory');

# In the background as well, and by the signal
my $b = mount_fs(program => "$d/connectfs", source => "$d/stored", background => 1);
my $worker = $b->pids->{worker};
kill HUP => $b->pid('supervisor');
ok(eventually(sub { my $p = eval { $b->pids }; $p && $p->{worker} != $worker }, 10), 'SIGHUP reloads');
ok($b->stop, '… it ends');
ok($m->stop, 'ends');
done_testing;
