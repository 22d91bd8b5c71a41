# A mount is as old as it is, whoever serves it: no death and no reload moves a time where nothing has changed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
spew("$src/a.properties", "a=1\n");
my $m = mount_fs(source => $src);
my @kept = ('', map { ".connectfs$_" } '', map { "/$_" } qw(status.json metrics version refresh));

sub times_of {
	return { map { my $st = stx($m->path($_), force_sync => 1); ($_ => $st ? "$st->{mtime_ns} $st->{ctime_ns}" : "$!") } @kept };
}
sub root_time { return stx($m->dir, force_sync => 1)->{mtime_ns} }
sub start_time { return $m->metric($_[0] ? 'connectfs_worker_start_time_seconds' : 'connectfs_start_time_seconds') }

# Lets the worker die, or somebody else take its place, and waits for the next one
sub another {
	my ($what, $do) = @_;
	my $worker = $m->pids->{worker};
	sleep 0.1; # who has served so long is replaced at once
	$do->($worker);
	return eventually(sub { (eval { $m->pids->{worker} } // $worker) != $worker }, 10, "$what: another worker");
}
sub crash { my ($worker) = @_; kill KILL => $worker }
sub reload { is(run(program(), 'reload', $m->dir)->{status}, 0, 'connectfs reload') }

my $before = time;
my ($first, $started, $metric, $worker_started) = (times_of(), $m->status->{started}, start_time(), start_time('worker'));
cmp_ok(abs($metric - $before), '<', patience(15), 'the metrics know since when there is the mount');
cmp_ok(abs($first->{'.connectfs'} =~ s/ .*//r / 1e9 - $metric), '<', 0.01, '… which is what its own files show');
cmp_ok($worker_started // 0, '>=', $metric - 15, '… and since when there is its worker');
for (['a crash', \&crash], ['another crash', \&crash], ['a reload', \&reload], ['a crash after the reload', \&crash]) {
	another(@$_);
	is_deeply(times_of(), $first, '… no time has moved, neither of the root nor of our own files');
	is($m->status->{started}, $started, '… the status says when the mount was made');
	is(start_time(), $metric, '… so do the metrics');
	cmp_ok(start_time('worker') // 0, '>', $worker_started // 0, '… which tell the worker from it');
	$worker_started = start_time('worker');
}

# Names that come and go move the root's, and nothing else's
sub moved {
	my ($what, $do, $there) = @_;
	my ($root, $all) = (root_time(), times_of());
	$do->();
	eventually(sub { (-e $m->path('b.properties') ? 1 : 0) == $there }, 10, $what);
	my $now = root_time();
	cmp_ok($now, '>', $root, '… the time of the root moves');
	delete $_->{''} for $all, my $others = times_of();
	is_deeply($others, $all, '… and no other');
	return $now;
}
my $root = moved('a connector comes', sub { spew("$src/b.properties", "b=1\n") }, 1);
another('a crash', \&crash);
is(root_time(), $root, '… which leaves the time where that has put it');
another('a reload', \&reload);
is(root_time(), $root, '… and so does a reload');
$root = moved('it goes', sub { unlink "$src/b.properties" }, 0);
another('a crash', \&crash);
is(root_time(), $root, '… which leaves that as it is as well');
$root = moved('one that comes while nobody serves', sub {
	my $worker = $m->pids->{worker};
	kill STOP => $worker;
	spew("$src/b.properties", "b=1\n");
	kill KILL => $worker;
}, 1);
another('a crash', \&crash);
is(root_time(), $root, '… and stays there');

ok($m->stop, 'ends');
# The next mount is another one
my $again = mount_fs(source => $src);
cmp_ok(stx($again->control('version'))->{mtime_ns}, '>', $first->{'.connectfs'} =~ s/ .*//r, 'a mount that is made anew is younger');
ok($again->stop, 'ends');
done_testing;
