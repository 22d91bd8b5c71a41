# The tree: which names a directory of stored configs shows, and their attributes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $far = tmp_dir();
spew("$src/orders.properties", "name=orders\n");
spew("$src/payments.json", qq({"name":"payments","topics":"a"}\n));
spew("$src/with space.properties", "name=with space\n");
spew("$src/\xc3\xbcber.properties", "name=u\n");
spew("$src/a%b.properties", "x=1\n");
spew("$src/no-name.properties", "x=1\n");
spew("$src/" . 'L' x 244 . '.properties', "x=1\n"); # a name of 255 bytes
spew("$far/real.txt", "name=linked\n");
symlink "$far/real.txt", "$src/linked.properties";
# What is no connector
spew("$src/$_", "x=1\n") for '.hidden.properties', 'orders.properties~', '#orders.properties#', '.orders.properties.swp',
	'orders.properties.swp', 'orders.properties.bak', 'orders.properties.tmp', 'orders.properties.orig',
	'orders.properties.rej', 'orders.properties.rpmnew', 'README', 'notes.txt', 'properties', 'x.PROPERTIES';
mkdir "$src/dir.properties";
mkdir "$src/sub";
spew("$src/sub/inner.properties", "x=1\n");
POSIX::mkfifo("$src/fifo.properties", 0644) or die;

my @shown = sort 'orders.properties', 'payments.json', 'with space.properties', "\xc3\xbcber.properties", 'a%b.properties',
	'no-name.properties', 'L' x 244 . '.properties', 'linked.properties';
my $m = mount_fs(source => $src);

my $names = ls_names($m->dir);
is_deeply([grep { $_ ne '.connectfs' } @$names], \@shown, 'the root shows each stored config under its own name and nothing else');
is_deeply(ls_names($m->control('')), [qw(metrics refresh status.json version)], '.connectfs holds its four files');

my $root = stx($m->dir);
is($root->{type}, 0040000, 'the root is a directory');
is(sprintf('%04o', $root->{mode}), '0755', '… of mode 0755');
is($root->{uid}, $>, '… of the mounting user');

for my $name (@shown) {
	my $st = $m->stat($name);
	ok($st, "$name: stat") or next;
	is($st->{type}, 0100000, "… a regular file");
	is(sprintf('%04o', $st->{mode}), '0400', '… of mode 0400');
	is($st->{uid}, $>, '… of the mounting user');
	is($st->{nlink}, 1, '… with one link');
	is($st->{dev}, $root->{dev}, '… on this mount');
}
is($m->stat('orders.properties')->{mtime_ns}, stx("$src/orders.properties")->{mtime_ns}, "before the first rotation mtime is the stored file's");
is($m->stat('linked.properties')->{mtime_ns}, stx("$far/real.txt")->{mtime_ns}, "… also through a symlink");
read_is($m->path('linked.properties'), "name=linked\n", 'a symlink is followed');
read_is($m->path('L' x 244 . '.properties'), "x=1\n", 'a name of 255 bytes can be read');

is((slurp_errno($m->path($_)))[1], ENOENT, "$_: ENOENT")
	for 'none.properties', '.hidden.properties', 'orders', 'notes.txt', 'sub', 'x' x 255;
is((slurp_errno($m->path('x' x 256)))[1], ENAMETOOLONG, 'a name of 256 bytes: ENAMETOOLONG');
is((slurp_errno($m->path('orders.properties/x')))[1], ENOTDIR, 'a file is no directory: ENOTDIR');

my @inos = map { $m->stat($_)->{ino} } @shown;
my %seen;
is(scalar(grep { $seen{$_}++ } @inos), 0, 'each has an inode number of its own');
is_deeply([map { $m->stat($_)->{ino} } @shown], \@inos, '… that stays');

SKIP: {
	skip 'find is not installed', 2 unless find_tool('find');
	my $r = run('find', $m->dir, '-maxdepth', 1, '-type', 'f', '-printf', '%f\n');
	is_deeply([sort split /\n/, $r->{out}], \@shown, 'find -type f finds them');
	$r = run('find', $m->dir, '-type', 'd', '-printf', '%P\n');
	is_deeply([sort split /\n/, $r->{out}], ['', '.connectfs'], 'find -type d finds .connectfs');
}

ok($m->stop, 'ends');
my $m2 = mount_fs(source => $src);
is_deeply([map { $m2->stat($_)->{ino} } @shown], \@inos, 'another mount gives the same inode numbers: they come from the names');

# A directory with many
my $many = tmp_dir();
my $n = 3000;
spew("$many/c$_.properties", "name=c$_\n") for 1 .. $n;
my $m3 = mount_fs(source => $many);
$names = ls_names($m3->dir);
is(scalar(grep { /^c\d+\.properties$/ } @$names), $n, "$n connectors are listed");
%seen = ();
is(scalar(grep { $seen{$_}++ } @$names), 0, '… each once');
my @missing = grep { !$m3->stat("c$_.properties") } 1 .. $n;
is(scalar @missing, 0, '… and each is found');
read_is($m3->path("c$n.properties"), "name=c$n\n", '… and read');

# An empty directory
my $m4 = mount_fs(source => tmp_dir());
is_deeply(ls_names($m4->dir), ['.connectfs'], 'an empty directory makes an empty mount');

done_testing;
