# A path on our own mount is refused: it would wait for itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use POSIX ();
use Time::HiRes qw(sleep time);
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $mnt = tmp_dir();
spew("$sec/s.properties", "k=1\n");
symlink $mnt, "$sec/tomount";
symlink "$mnt/plain.properties", "$sec/tofile";
my %stored = (
	plain => "k=v\n",
	direct => "a=\${file:$mnt/plain.properties:k}\n",
	self => "a=\${file:$mnt/self.properties:a}\n",
	dots => "a=\${file:$sec/../" . basename($mnt) . "/plain.properties:k}\n",
	linkdir => "a=\${file:$sec/tomount/plain.properties:k}\n",
	linkfile => "a=\${file:$sec/tofile:k}\n",
	dir => "a=\${directory:$mnt:plain.properties}\n",
	control => "a=\${file:$mnt/.connectfs/version:k}\n",
	proc => "a=\${file:/proc/self/root$mnt/plain.properties:k}\n",
	other => "a=\${file:$sec/s.properties:k}\n",
);
spew("$src/$_.properties", $stored{$_}) for keys %stored;
symlink "$mnt/plain.properties", "$src/storedlink.properties";
my $t0 = time;
my $m = mount_fs(source => $src, mountpoint => $mnt);
cmp_ok(time - $t0, '<', patience(8), 'the mount comes up');
read_is($m->path('plain.properties'), "k=v\n", 'a plain one is read');
for my $name (qw(direct self dots linkdir linkfile dir control proc)) {
	$t0 = time;
	my ($bytes, $errno) = $m->cat("$name.properties");
	ok(defined $errno, "$name: refused") or diag $bytes;
	cmp_ok(time - $t0, '<', patience(4), '… at once');
	like($m->attr("$name.properties", 'error') // '', qr/mount/, '… .error says why');
}
my ($bytes, $errno) = $m->cat('storedlink.properties');
ok(defined $errno, 'a stored file that leads to the mount: refused, or not shown');
read_is($m->path('other.properties'), "a=1\n", 'the others are undisturbed');
is(run(program(), 'status', $mnt)->{status}, 1, 'the status tells');

# A link that comes to lead there later
symlink "$sec/s.properties", "$sec/later";
spew("$src/later.properties", "a=\${file:$sec/later:k}\n");
eventually(sub { $m->stat('later.properties') }, 5);
read_is($m->path('later.properties'), "a=1\n", 'a link');
unlink "$sec/later";
symlink "$mnt/plain.properties", "$sec/later";
my $r = run('cat', $m->path('later.properties'), { timeout => 10 });
ok(!$r->{timed_out}, '… that comes to lead to the mount: no hang');
unlike($r->{out}, qr/v/, '… and is not followed');
unlink "$sec/later";
symlink "$sec/s.properties", "$sec/later";
ok(eventually(sub { (($m->cat('later.properties'))[0] // '') eq "a=1\n" }, 5), '… until it leads elsewhere');

# The same under twenty readers: more than there are FUSE threads, each of which would wait for another
my @readers;
for (1 .. 20) {
	my $pid = fork // die;
	if (!$pid) {
		my $end = time + 2;
		while (time < $end) {
			open(my $fh, '<', $m->path('later.properties')) or next;
			close $fh;
		}
		POSIX::_exit(0);
	}
	push @readers, $pid;
}
for my $i (1 .. 40) {
	for my $to ("$mnt/nothing$i", "$sec/s.properties") {
		symlink $to, "$sec/later.new";
		rename "$sec/later.new", "$sec/later";
		sleep($to =~ /nothing/ ? 0.004 : 0.03);
	}
}
my %left = map { $_ => 1 } @readers;
ok(eventually(sub { waitpid($_, POSIX::WNOHANG()) and delete $left{$_} for keys %left; !%left }, 20), 'twenty readers while it is switched: all end');
kill KILL => keys %left if %left;
ok(eventually(sub { (($m->cat('later.properties'))[0] // '') eq "a=1\n" }, 5), '… and it is read after that');
ok($m->stop, 'ends');

# A worker that dies while a thread of its own waits for it to answer: the kernel lets that thread die only when it has
# an answer, and so a successor must come before. At each place where it may die
my $faults = "$sec/faults";
spew($faults, pack 'q2', 0, 0);
symlink "$mnt/nowhere", "$src/dangling.properties"; # which a successor meets before it serves
$m = mount_fs(program => test_program(), source => $src, mountpoint => $mnt, env => { CONNECTFS_FAULT => $faults });
my $stuck = 0;
for my $step (1 .. 40) {
	my $to = "$mnt/nowhere$step";
	symlink $to, "$sec/tofile.new";
	rename "$sec/tofile.new", "$sec/tofile";
	open(my $f, '+<', $faults) or die;
	syswrite $f, pack('q', $step);
	close $f;
	my $r = run('cat', $m->path('linkfile.properties'), { timeout => patience(10) });
	$stuck++ if $r->{timed_out};
	last if $r->{timed_out};
	open($f, '+<', $faults) or die;
	syswrite $f, pack('q', 0);
	close $f;
	sleep 0.08; # not so soon after the last death that the supervisor makes a pause
}
unlink "$src/dangling.properties";
is($stuck, 0, 'a worker dies while it waits for itself: another one answers');
read_is($m->path('plain.properties'), "k=v\n", '… and serves');
cmp_ok($m->status->{worker_restarts}, '>=', 20, '… after many deaths');
ok($m->stop, 'ends');

# SOURCE below or at the mount point
for my $where ($mnt, "$mnt/sub") {
	mkdir "$mnt/sub";
	spew("$where/a.properties", "a=1\n");
	my $p = start(program(), '-f', $where, $mnt);
	my $up = eventually(sub { $p->ended || ConnectFS::Guard::mounts_below($mnt) }, 10);
	ok($up, 'a source ' . ($where eq $mnt ? 'at' : 'below') . ' the mount point: refused or mounted, no hang');
	if ($p->ended) {
		like($p->errors, qr/\S/, '… with a sentence');
	} else {
		my $r = run('timeout', 5, 'cat', "$mnt/a.properties", { timeout => 10 });
		ok(!$r->{timed_out} && $r->{status} != 124, '… reading does not hang');
		$p->signal('TERM');
	}
	ok($p->wait_end(patience(5)), '… it ends');
}

# A mount of another connectfs is a file system like others: remote, but allowed
my $first = mount_fs(source => $src, mountpoint => $mnt);
my $src2 = tmp_dir();
spew("$src2/x.properties", "a=\${file:$mnt/plain.properties:k}\n");
my $second = mount_fs(source => $src2);
read_is($second->path('x.properties'), "a=v\n", "another connectfs' mount may be read");
ok($second->stop, 'ends');
ok($first->stop, 'ends');

done_testing;
