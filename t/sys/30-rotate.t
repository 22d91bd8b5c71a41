# However a secret or a stored config is replaced: one IN_MODIFY and one IN_ATTRIB on file and directory watches, and mtime goes up.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my %is;

# Kubernetes' layout: key -> ..data/key, ..data -> ..TIMESTAMP
mkdir "$sec/k8s";
my $k8s_n = 0;
sub k8s_swap {
	my (%keys) = @_;
	my $ts = '..2026_01_01_' . ++$k8s_n;
	mkdir "$sec/k8s/$ts" or die $!;
	spew("$sec/k8s/$ts/$_", $keys{$_}) for keys %keys;
	my $old = readlink "$sec/k8s/..data";
	symlink $ts, "$sec/k8s/..data_tmp" or die $!;
	rename "$sec/k8s/..data_tmp", "$sec/k8s/..data" or die $!;
	for (keys %keys) { symlink "..data/$_", "$sec/k8s/$_" unless -l "$sec/k8s/$_" }
	run('rm', '-rf', "$sec/k8s/$old") if defined $old;
}
k8s_swap('db.properties' => "k=0\n", token => '0');
mkdir "$sec/l$_" for 1, 2;
spew("$sec/l1/real.properties", "k=0\n");
symlink "l1", "$sec/lcur";
symlink "lcur/real.properties", "$sec/link.properties";
spew("$sec/plain.properties", "k=0\n");
mkdir "$sec/deep";
spew("$sec/deep/x.properties", "k=0\n");
spew("$src/plain.properties", "name=plain\nk=\${file:$sec/plain.properties:k}\n");
spew("$src/deep.properties", "name=deep\nk=\${file:$sec/deep/x.properties:k}\n");
spew("$src/k8s.properties", "name=k8s\nk=\${file:$sec/k8s/db.properties:k}\n");
spew("$src/k8sdir.properties", "name=k8sdir\nk=\${directory:$sec/k8s:token}\n");
spew("$src/link.properties", "name=link\nk=\${file:$sec/link.properties:k}\n");

my $m = mount_fs(source => $src);
my @names = qw(plain deep k8s k8sdir link);
read_is($m->path("$_.properties"), "name=$_\nk=0\n", "$_: read") for @names;

my $vim = sub { # as vim with backupcopy=no
	my ($path, $text) = @_;
	rename $path, "$path~" or die $!;
	spew($path, $text);
	unlink "$path~";
};
my @ways = (
	['plain', 'in place', sub { spew("$sec/plain.properties", "k=$_[0]\n") }],
	['plain', 'renamed over', sub { replace("$sec/plain.properties", "k=$_[0]\n") }],
	['plain', 'removed and made anew', sub { unlink "$sec/plain.properties"; spew("$sec/plain.properties", "k=$_[0]\n") }],
	['plain', "an editor's backup and new file", sub { $vim->("$sec/plain.properties", "k=$_[0]\n") }],
	['plain', 'appended (the last one counts)', sub { append("$sec/plain.properties", "k=$_[0]\n") }],
	['plain', 'sed -i', sub { run('sed', '-i', "s/^k=.*/k=$_[0]/", "$sec/plain.properties") }],
	['plain', 'the shell', sub { run('sh', '-c', 'echo "k=$1" >"$2"', 'sh', $_[0], "$sec/plain.properties") }],
	['plain', 'cp', sub { spew("$sec/tmp", "k=$_[0]\n"); run('cp', "$sec/tmp", "$sec/plain.properties") }],
	['plain', 'a hard link renamed over', sub { spew("$sec/tmp2", "k=$_[0]\n"); link "$sec/tmp2", "$sec/tmp3"; rename "$sec/tmp3", "$sec/plain.properties" }],
	['plain', 'dd without truncation', sub { spew("$sec/tmp", "k=$_[0]\n"); run('dd', "if=$sec/tmp", "of=$sec/plain.properties", 'conv=notrunc', 'status=none') }],
	['plain', 'with the old mtime and the same size', sub {
		my $old = stx("$sec/plain.properties");
		replace("$sec/plain.properties", "k=$_[0]\n");
		utime $old->{mtime_ns} / 1e9, $old->{mtime_ns} / 1e9, "$sec/plain.properties";
	}],
	['deep', 'its directory replaced', sub {
		mkdir "$sec/deep.new";
		spew("$sec/deep.new/x.properties", "k=$_[0]\n");
		rename "$sec/deep", "$sec/deep.old.$_[0]";
		rename "$sec/deep.new", "$sec/deep";
	}],
	['deep', 'in place there', sub { spew("$sec/deep/x.properties", "k=$_[0]\n") }],
	['k8s', "Kubernetes' ..data swap", sub { k8s_swap('db.properties' => "k=$_[0]\n", token => $is{k8sdir} // 0) }],
	['k8s', "… again", sub { k8s_swap('db.properties' => "k=$_[0]\n", token => $is{k8sdir} // 0) }],
	['k8sdir', '… of a directory of secrets', sub { k8s_swap('db.properties' => "k=$is{k8s}\n", token => $_[0]) }],
	['link', 'behind two symlinks, in place', sub { spew("$sec/l1/real.properties", "k=$_[0]\n") }],
	['link', '… renamed over', sub { replace("$sec/l1/real.properties", "k=$_[0]\n") }],
	['link', '… the first symlink changed', sub {
		spew("$sec/l2/real.properties", "k=$_[0]\n");
		symlink 'l2', "$sec/lcur.new";
		rename "$sec/lcur.new", "$sec/lcur";
	}],
	['link', '… in place where it leads now', sub { spew("$sec/l2/real.properties", "k=$_[0]\n") }],
	['link', '… the last symlink replaced by a file', sub { replace("$sec/link.properties", "k=$_[0]\n") }],
	['plain', 'the stored file, in place', sub { spew("$src/plain.properties", "name=plain\nk=$_[0]\n") }],
	['plain', '… renamed over', sub { replace("$src/plain.properties", "name=plain\nk=$_[0]\n") }],
	['plain', '… an editor', sub { $vim->("$src/plain.properties", "name=plain\nk=$_[0]\n") }],
);

my $watch = watch($m->dir, map { $m->path("$_.properties") } @names);
my $others = watch(map { $m->path("$_.properties") } @names);
my $n = 100;
for my $way (@ways) {
	my ($name, $what, $code) = @$way;
	my $file = $m->path("$name.properties");
	my ($before, $version) = (stx($file)->{mtime_ns}, $m->attr("$name.properties", 'version'));
	my @marks = map { $m->attr("$_.properties", 'version') } @names;
	$watch->clear;
	$n++;
	$code->($n);
	$is{$name} = $n;
	my $got = $watch->await('ATTRIB', 5, '');
	my @events = $watch->drain(0.12);
	is(ConnectFS::Watcher::text($file, @events), 'MODIFY ATTRIB', "$name, $what: once on the file");
	is(ConnectFS::Watcher::text($m->dir, @events), "MODIFY:$name.properties ATTRIB:$name.properties", '… once on the directory, with its name');
	my $st = stx($file);
	cmp_ok($st->{mtime_ns}, '>', $before, '… mtime has gone up');
	is($m->attr("$name.properties", 'version'), $version + 1, '… the version by one');
	is($st->{size}, length "name=$name\nk=$n\n", '… the size is true before it is read');
	read_is($file, "name=$name\nk=$n\n", '… and the content is new');
}
cmp_ok(scalar($m->log_lines(qr/msg=rotated/)), '==', scalar @ways, 'a line in the log for each rotation') or diag $m->log;

# mtime goes up even if the clock is behind it
my $file = $m->path('plain.properties');
for my $i (1 .. 5) {
	my $before = stx($file)->{mtime_ns};
	replace("$src/plain.properties", "name=plain\nk=x$i\n");
	utime time + 1000 - $i, time + 1000 - $i, "$src/plain.properties";
	eventually(sub { slurp($file) eq "name=plain\nk=x$i\n" }, 3);
	cmp_ok(stx($file)->{mtime_ns}, '>', $before, "stored files from the future, round $i: mtime strictly increases");
}

done_testing;
