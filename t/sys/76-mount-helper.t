# mount -t fuse.connectfs, and a line of fstab: by our own helper and by the generic one of fuse3.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $d = tmp_dir();
mkdir "$d/$_" for qw(src mnt sbin);
chmod 0755, base_dir(), $d;
spew("$d/src/a.properties", "a=1\n");
my $program = program();
(my $text = slurp("$FindBin::Bin/../../contrib/systemd/mount.fuse.connectfs.in")) =~ s{\@bindir\@/connectfs}{'$program'}g;
my $helper = spew("$d/sbin/mount.fuse.connectfs", $text);
chmod 0755, $helper;

sub mounted { return scalar ConnectFS::Guard::mounts_below("$d/mnt") }
sub unmount {
	ConnectFS::Guard::detach("$d/mnt");
	return eventually(sub { !mounted() && !grep { $_->[2] eq 'connectfs' } ConnectFS::Guard::descendants(getppid) }, 5);
}

# The helper by itself, as mount(8) calls it; without any privilege
my $r = run($helper, "$d/src", "$d/mnt", '-v', '-n', '-s', '-o', 'rw,noexec,mode=0440,_netdev,x-systemd.automount');
is($r->{status}, 0, 'the helper mounts') or diag $r->{err};
is(mounted(), 1, '… and is back when it is mounted');
read_is("$d/mnt/a.properties", "a=1\n", '… it reads');
is(stx("$d/mnt/a.properties")->{mode}, 0440, '… its options are heard');
$r = run($helper, "$d/src", "$d/mnt", '-o', 'rw');
is($r->{status}, 32, 'mounted twice: 32, as mount(8) has it for a failure');
like($r->{err}, qr/connectfs: .*\Q$d\E\/mnt/, '… with a sentence');
ok(unmount(), '… unmounted');
is(run($helper, "$d/src", "$d/mnt", '-f', '-o', 'rw')->{status}, 0, '-f: well');
is(mounted(), 0, '… and nothing is mounted');
is(run($helper, "$d/src", "$d/mnt")->{status}, 0, 'without options');
ok(unmount(), '… unmounted');
for ([], ["$d/src"], ["$d/src", "$d/mnt", '-x'], ["$d/src", "$d/mnt", '-N', '1'], ["$d/src", "$d/mnt", 'more']) {
	is(run($helper, @$_)->{status}, 1, "a wrong call (@{[map { s/.*\///r } @$_]}): 1");
}
$r = run($helper, "$d/src", "$d/mnt", '-o', 'rw,mod=0440');
is($r->{status}, 32, 'a wrong option: 32');
like($r->{err}, qr/did you mean/, '… with a sentence');
is(mounted(), 0, '… and nothing is mounted');

# Unmounted and mounted again at once, before the daemon has ended
$r = run('sh', '-c', 'for i in 1 2 3 4 5; do "$0" "$1" "$2" -o rw || exit 7; cat "$2/a.properties" || exit 6; "$3" "$4" "$2" || exit 5; done', $helper, "$d/src", "$d/mnt", is_root() ? ('umount', '-v') : ('fusermount3', '-u'));
is($r->{status}, 0, 'unmounted and mounted again at once, several times') or diag $r->{err};
ok(eventually(sub { !mounted() }, 5), '… unmounted');

# By mount(8). Helpers lie in /sbin, so this is done in a mount namespace of its own, where another directory is seen there.
my $unshare = find_tool('unshare');
sub in_namespace {
	my ($script, %o) = @_;
	# mount(8) takes PATH out of the environment, so the generic helper finds the program only where sh looks
	my $prepare = $o{own} ? 'b=$(readlink -f /sbin) && mount -t tmpfs none "$b" && cp "$d/sbin/mount.fuse.connectfs" "$b/"'
		: 'mount -t tmpfs none /usr/local/bin && ln -s "$2" /usr/local/bin/connectfs';
	return run($unshare, '-m', 'sh', '-c', "d=\$1; { $prepare; } || exit 9; $script", 'sh', $d, $program, { timeout => 30 });
}
my $can = is_root() && $unshare && run($unshare, '-m', 'true')->{status} == 0;
for my $own (1, 0) {
	my $whose = $own ? 'our own helper' : 'the generic helper';
	SKIP: {
		skip 'needs root', 5 unless is_root();
		skip 'no mount namespace can be made here', 5 unless $can;
		skip 'mount.fuse3 is not installed', 5 unless $own || -x '/sbin/mount.fuse3' || -x '/usr/sbin/mount.fuse3';
		$r = in_namespace('mount -t fuse.connectfs "$d/src" "$d/mnt" -o allow_other,mode=0444,noexec && cat "$d/mnt/a.properties" && grep "$d/mnt" /proc/self/mounts; umount "$d/mnt"', own => $own);
		is($r->{status}, 0, "mount -t fuse.connectfs, by $whose") or diag $r->{err};
		like($r->{out}, qr/^a=1\n\S+ \Q$d\E\/mnt fuse\.connectfs \S*noexec\S*allow_other/, '… mounts, and its options are heard');
		spew("$d/fstab", "$d/src $d/mnt fuse.connectfs rw,nofail,_netdev,noauto,user,mode=0440,x-systemd.device-timeout=5 0 0\n");
		$r = in_namespace('mount -T "$d/fstab" "$d/mnt" && cat "$d/mnt/a.properties" && stat -c %a "$d/mnt/a.properties"; umount "$d/mnt"', own => $own);
		is($r->{status}, 0, "a line of fstab, by $whose") or diag $r->{err};
		is($r->{out}, "a=1\n440\n", '… is heard as well');
		$r = in_namespace('mount -t fuse.connectfs "$d/none" "$d/mnt"', own => $own);
		ok($r->{status} != 0 && $r->{err} =~ /none: No such file/, '… a source that there is not fails with a sentence') or diag "$r->{status} $r->{err}";
	}
}

done_testing;
