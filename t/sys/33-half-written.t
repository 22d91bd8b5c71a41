# A half-written secret file reaches no reader.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
my $N = "$sec/new.properties";
sub secret { my ($v) = @_; return join '', map { "k$_=$v\n" } 1 .. 200 }
sub shown { my ($v) = @_; return "first=$v\nlast=$v\n" }
spew($S, secret('old'));
spew("$src/a.properties", "first=\${file:$S:k1}\nlast=\${file:$S:k200}\n");
spew("$src/b.properties", "first=\${file:$N:k1}\nlast=\${file:$N:k200}\n");
spew("$src/stored.properties", shown('stored'));
my $m = mount_fs(source => $src);
my $f = $m->path('a.properties');
read_is($f, shown('old'), 'read');
read_is($m->path('stored.properties'), shown('stored'), '… the other too');

# Writes half, pauses, writes the rest, closes; meanwhile reads
sub slow_write {
	my ($path, $text, $pause, $half) = @_;
	my $pid = fork // die;
	if (!$pid) {
		open(my $o, '>', $path) or POSIX::_exit(1);
		syswrite $o, substr $text, 0, $half;
		sleep $pause;
		syswrite $o, substr $text, $half;
		sleep $pause;
		close $o;
		POSIX::_exit(0);
	}
	return $pid;
}

my $w = watch($f);
for my $round (1 .. 4) {
	my ($old, $new) = ($round == 1 ? 'old' : 'r' . ($round - 1), "r$round");
	my $half = int(length(secret($new)) * $round / 5);
	$w->clear;
	my $pid = slow_write($S, secret($new), 0.2, $half);
	my (%seen, $reads);
	while (waitpid($pid, POSIX::WNOHANG()) == 0) {
		my ($bytes, $errno) = slurp_errno($f);
		$seen{$bytes // errno_name($errno)}++;
		$reads++;
		sleep 0.002;
	}
	delete $seen{shown($old)};
	delete $seen{shown($new)};
	is_deeply(\%seen, {}, "round $round, half after $half bytes: nothing but old and new in $reads reads");
	read_is($f, shown($new), '… new at the close');
	is(ConnectFS::Watcher::text($f, $w->drain(0.25)), 'MODIFY ATTRIB', '… one rotation');
	is($m->attr('a.properties', 'error'), undef, '… never broken');
}
is($m->attr('a.properties', 'version'), 4, 'four rotations in all');
is(scalar $m->log_lines(qr/level=(?:warn|error).*\ba\b/), 0, 'no complaint in the log') or diag $m->log;

# Nothing is known yet: opens wait for the close
is_errno(($m->cat('b.properties'))[1], 'ENOKEY', 'a secret file that is not there yet');
my $pid = slow_write($N, secret('new'), 0.2, 700);
my %seen;
while (waitpid($pid, POSIX::WNOHANG()) == 0) {
	my ($bytes, $errno) = slurp_errno($m->path('b.properties'));
	$seen{$bytes // errno_name($errno)}++;
	sleep 0.002;
}
delete $seen{$_} for shown('new'), 'ENOKEY';
is_deeply(\%seen, {}, '… is never seen half');
read_is($m->path('b.properties'), shown('new'), '… whole at the close');

# The stored file itself
my $sf = $m->path('stored.properties');
my $sw = watch($sf);
$pid = slow_write("$src/stored.properties", shown('stored2'), 0.2, 8);
%seen = ();
while (waitpid($pid, POSIX::WNOHANG()) == 0) {
	my ($bytes, $errno) = slurp_errno($sf);
	$seen{$bytes // errno_name($errno)}++;
	sleep 0.002;
}
delete $seen{$_} for shown('stored'), shown('stored2');
is_deeply(\%seen, {}, 'a half-written stored file is never seen either');
eventually(sub { slurp($sf) eq shown('stored2') }, 3, '… new at the close');
is(ConnectFS::Watcher::text($sf, $sw->drain(0.25)), 'MODIFY ATTRIB', '… one rotation');

# A writer that never closes does not stop the world
open(my $o, '>', $S) or die;
syswrite $o, secret('open');
my $t0 = time;
my ($bytes) = slurp_errno($f);
cmp_ok(time - $t0, '<', patience(5), 'a writer that does not close: readers do not wait for ever');
eventually(sub { (slurp_errno($f))[0] eq shown('open') }, 4, '… and get the new content some time after the last write');
close $o;

done_testing;
