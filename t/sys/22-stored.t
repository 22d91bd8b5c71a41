# A stored config that can't be read or parsed: the last good content, as stale; the others undisturbed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "k=1\n");
spew("$src/a.json", qq({"name":"a","k":"\${file:$S:k}"}\n));
spew("$src/b.properties", "k=\${file:$S:k}\n");
spew("$src/c.properties", "k=\${file:$S:k}\n");
my $m = mount_fs(source => $src);
read_is($m->path('a.json'), qq({"name":"a","k":"1"}\n), 'JSON is well');
read_is($m->path('b.properties'), "k=1\n", '.properties too');
my $mtime = $m->stat('a.json')->{mtime_ns};

spew("$src/a.json", qq({"name":"a",\n"k" \n));
eventually(sub { $m->attr('a.json', 'state') eq 'stale' }, 3, 'broken JSON: stale');
read_is($m->path('a.json'), qq({"name":"a","k":"1"}\n), '… the last good content is served');
like($m->attr('a.json', 'error'), qr/a\.json:\d/, '… .error has file and line');
is($m->stat('a.json')->{mtime_ns}, $mtime, '… no rotation');
read_is($m->path('b.properties'), "k=1\n", '… the other is undisturbed');
is($m->attr('b.properties', 'state'), 'ok', '… and ok');

# A stale one goes on with its secrets
spew($S, "k=2\n");
read_is($m->path('a.json'), qq({"name":"a","k":"2"}\n), 'a secret of the stale one rotates: resolved anew from the last good text');
is($m->attr('a.json', 'state'), 'stale', '… still stale');

spew("$src/a.json", qq({"name":"a","new":"\${file:$S:k}"}\n));
eventually(sub { $m->attr('a.json', 'state') eq 'ok' }, 3, 'mended: ok');
read_is($m->path('a.json'), qq({"name":"a","new":"2"}\n), '… with its new content');
is($m->attr('a.json', 'error'), undef, '… no .error');

# Never good
spew("$src/d.properties", "a=1\nx=\\u00\n");
eventually(sub { $m->stat('d.properties') }, 3, 'one that was never good appears');
is_errno(($m->cat('d.properties'))[1], 'EIO', '… EIO');
like($m->attr('d.properties', 'error'), qr/d\.properties:2/, '… with its place');
spew("$src/d.properties", "a=1\nx=2\n");
eventually(sub { (($m->cat('d.properties'))[0] // '') eq "a=1\nx=2\n" }, 3, '… until it is mended');

# Too large, too many keys
spew("$src/large.properties", "k=" . 'x' x (1024 * 1024) . "\n");
spew("$src/keys.properties", join '', map { "k$_=\n" } 1 .. 10_001);
spew("$src/just.properties", join '', map { "k$_=\n" } 1 .. 10_000);
for my $name (qw(large.properties keys.properties)) {
	eventually(sub { $m->stat($name) }, 3, "$name appears");
	is_errno(($m->cat($name))[1], 'EIO', '… EIO');
	like($m->attr($name, 'error') // '', qr/MiB|1048576|10,?000|too (?:large|big|many|long)|limit/i, '… and why');
}
eventually(sub { defined(($m->cat('just.properties'))[0]) }, 3, '10,000 keys are fine');
read_is($m->path('b.properties'), "k=2\n", 'the others are undisturbed');

# Can't be read
SKIP: {
	skip 'root may read everything', 7 if is_root();
	chmod 0, "$src/c.properties";
	eventually(sub { $m->attr('c.properties', 'state') eq 'stale' }, 3, 'no permission for the stored file any more: stale');
	read_is($m->path('c.properties'), "k=2\n", '… the last good content');
	like($m->attr('c.properties', 'error') // '', qr/[Pp]ermission/, '… .error says why');
	chmod 0644, "$src/c.properties";
	eventually(sub { $m->attr('c.properties', 'state') eq 'ok' }, 3, '… chmod heals it');
	spew("$src/.e", "e=1\n");
	chmod 0, "$src/.e";
	rename "$src/.e", "$src/e.properties";
	eventually(sub { $m->stat('e.properties') }, 3, 'one that never could be read appears');
	is_errno(($m->cat('e.properties'))[1], 'EIO', '… EIO');
	like($m->attr('e.properties', 'error') // '', qr/[Pp]ermission/, '… .error says why');
}

# A stored file that becomes a directory, and comes back
unlink "$src/b.properties";
mkdir "$src/b.properties";
eventually(sub { !$m->stat('b.properties') }, 3, 'a directory of that name is no connector');
rmdir "$src/b.properties";
spew("$src/b.properties", "k=again \${file:$S:k}\n");
eventually(sub { (($m->cat('b.properties'))[0] // '') eq "k=again 2\n" }, 3, '… and a file is one again');

done_testing;
