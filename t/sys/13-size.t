# Sizes: 0 before the first open, true from then on; reads at offsets; a snapshot for each open.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "k=one\nbig=" . 'b' x 200_000 . "\n");
spew("$src/a.properties", "k=\${file:$S:k}\n");
spew("$src/b.properties", "k=\${file:$S:k}\n");
spew("$src/big.properties", join('', map { "k$_=\${file:$S:big}\n" } 1 .. 15)); # 3 MB
spew("$src/toobig.properties", join('', map { "k$_=\${file:$S:big}\n" } 1 .. 22)); # over 4 MiB
spew("$src/literal.properties", "k=no reference\n");

my $m = mount_fs(source => $src);
my $st = $m->stat('a.properties');
is($st->{size}, 0, 'before the first open the size is 0');
is($m->attr('a.properties', 'state'), 'idle', '… and the state idle');
run('ls', '-lR', $m->dir);
ok(-e $m->path('a.properties') && -r _, 'access');
xattr_names($m->path('a.properties'));
is($m->stat('a.properties')->{size}, 0, 'stat, ls, access and listxattr resolve nothing');

read_is($m->path('a.properties'), "k=one\n", 'read');
is($m->stat('a.properties')->{size}, 6, 'the size is true after an open');
is($m->attr('a.properties', 'state'), 'ok', '… and the state ok');
is($m->stat('b.properties')->{size}, 0, 'of the other it is still 0');

# fstat right after open, as many programs do
sysopen(my $b, $m->path('b.properties'), O_RDONLY) or die;
is(-s $b, 6, 'fstat of a descriptor tells the true size');
is(-s $m->path('b.properties'), 6, '… stat too');
close $b;

# The snapshot of an open descriptor
sysopen(my $old, $m->path('a.properties'), O_RDONLY) or die;
sysread($old, my $head, 3);
replace($S, "k=a longer one\nbig=B\n");
read_is($m->path('a.properties'), "k=a longer one\n", 'a new open sees the new value at once');
is($m->stat('a.properties')->{size}, 15, '… stat the new size');
sysread($old, my $tail, 100);
is("$head$tail", "k=one\n", 'an open descriptor goes on with its own');
seek $old, 0, 0;
sysseek($old, 0, 0);
sysread($old, my $again, 100);
is($again, "k=one\n", '… also from the start');
is(sysread($old, my $none, 10), 0, '… and ends where it ended');
close $old;

# From long to short: whoever opened the long one and asks its size must not be cut short
replace($S, "k=" . 'L' x 5000 . "\nbig=B\n");
sysopen(my $long, $m->path('a.properties'), O_RDONLY) or die;
replace($S, "k=s\nbig=B\n");
read_is($m->path('a.properties'), "k=s\n", 'shrunk');
my $size = -s $long;
cmp_ok($size, '>=', 5003, "fstat of the long one's descriptor does not tell less than it has");
my $all = '';
1 while sysread($long, $all, 65536, length $all);
is(length $all, 5003, '… and it is read whole');
close $long;
eventually(sub { $m->stat('a.properties')->{size} == 4 }, 3, 'then the size is the new one');

# Offsets
replace($S, "k=" . join(',', 1 .. 4000) . "\nbig=" . 'b' x 200_000 . "\n");
SKIP: {
	my $py = find_tool('python3') or skip 'python3 is not installed', 2;
	my $r = run($py, helper_path('pread.py'), $m->path('a.properties'));
	like($r->{out}, qr/^ok \d+$/, 'pread at odd offsets and lengths, lseek, preadv; no bytes by mmap') or diag $r->{err};
	$r = run($py, helper_path('pread.py'), $m->path('big.properties'));
	like($r->{out}, qr/^ok 3\d{6}$/, '… of 3 MB') or diag $r->{err};
}
is(length slurp($m->path('big.properties')), 15 * 200_000 + 9 * 4 + 6 * 5, 'a config of 3 MB is whole');

my ($bytes, $errno) = $m->cat('toobig.properties');
ok(!defined $bytes, 'over 4 MiB rendered: an error');
is(errno_name($errno), 'EIO', '… EIO');
like($m->attr('toobig.properties', 'error') // '', qr/4 ?MiB|4194304|too (?:big|large|long)|limit|max/i, '… and .error says why');
is($m->attr('toobig.properties', 'state'), 'failed', '… failed');
is(length slurp($m->path('a.properties')), length(join ',', 1 .. 4000) + 3, 'the others are well');

is(stx($m->path('literal.properties'))->{size} == 0 || stx($m->path('literal.properties'))->{size} == 15, 1, 'without references: size 0 or true');
read_is($m->path('literal.properties'), "k=no reference\n", '… read');

# connectfs.warm
my $w = mount_fs(source => $src, settings => { 'connectfs.warm' => 'true' });
eventually(sub { ($w->stat('b.properties')->{size} // 0) > 0 }, 10, 'connectfs.warm=true: sizes before the first open');
eventually(sub { ($w->attr('toobig.properties', 'state') // '') eq 'failed' }, 10, '… and what is broken is known');

done_testing;
