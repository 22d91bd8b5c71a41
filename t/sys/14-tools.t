# Programs of other people read it: whole, whatever their way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "v=" . join('', map { chr(97 + $_ % 26) } 1 .. 9000) . "\n");
my @ways = qw(cat cp cpa dd install tar rsync grep sed awk head wc sha1sum perl bash curl python sendfile node javabytes openssl sort);
spew("$src/$_.properties", "name=$_\nv=\${file:$S:v}\nend=1\n") for @ways, 'tarall', 'dir1', 'dir2';
my $m = mount_fs(source => $src);
my $out = tmp_dir();

sub want { my ($name) = @_; return "name=$name\nv=" . join('', map { chr(97 + $_ % 26) } 1 .. 9000) . "\nend=1\n" }

# Each way is the first to open its file (size 0 before), then does it again (true size)
sub way {
	my ($name, $tool, $code) = @_;
	SKIP: {
		my $path = find_tool($tool) or skip "$tool is not installed", 2;
		for my $round ('first open', 'again') {
			my $got = $code->($path, $m->path("$name.properties"));
			is(sha($got // ''), sha(want($name)), "$name, $round") or diag(length($got // '') . ' bytes, not ' . length want($name));
		}
	}
}
sub out_of { my @c = @_; return sub { my ($tool, $path) = @_; return run($tool, map { $_ eq '@' ? $path : $_ } @c)->{out} } }
sub file_of { my @c = @_; return sub {
	my ($tool, $path) = @_;
	unlink "$out/f";
	my $r = run($tool, map { $_ eq '@' ? $path : $_ eq '>' ? "$out/f" : $_ } @c);
	diag $r->{err} if $r->{status};
	return -e "$out/f" ? slurp("$out/f") : undef;
} }

way(cat => 'cat', out_of('@'));
way(cp => 'cp', file_of('@', '>'));
way(cpa => 'cp', file_of('-a', '@', '>'));
way(dd => 'dd', sub { my ($t, $p) = @_; run($t, 'bs=777', 'status=none', "if=$p")->{out} });
way(install => 'install', file_of('-m', '600', '@', '>'));
way(grep => 'grep', out_of('-h', '', '@'));
way(sed => 'sed', out_of('', '@'));
way(awk => 'awk', out_of('{print}', '@'));
way(head => 'head', out_of('-c', '1000000', '@'));
way(sort => 'cat', out_of('-u', '@'));
way(perl => 'perl', out_of('-0777', '-ne', 'print', '@'));
way(bash => 'bash', sub { my ($t, $p) = @_; my $o = run($t, '-c', 'x=$(<"$1"); printf "%s\n" "$x"', 'bash', $p)->{out}; $o });
way(curl => 'curl', sub { my ($t, $p) = @_; run($t, '-s', "file://$p")->{out} });
way(openssl => 'openssl', sub { my ($t, $p) = @_; my $o = run($t, 'base64', '-A', '-in', $p)->{out}; require MIME::Base64; MIME::Base64::decode_base64($o) });
way(python => 'python3', out_of('-c', 'import sys; sys.stdout.write(open(sys.argv[1]).read())', '@'));
way(sendfile => 'python3', out_of(helper_path('sendfile.py'), '@'));
way(node => 'node', out_of('-e', 'process.stdout.write(require("fs").readFileSync(process.argv[1]))', '@'));
way(rsync => 'rsync', file_of('-a', '@', '>'));
way(tar => 'tar', sub {
	my ($t, $p) = @_;
	my $r = run($t, '-C', dirname($p), '-cf', "$out/f.tar", basename($p));
	is($r->{status}, 0, 'tar: no complaint') or diag $r->{err};
	run($t, '-xOf', "$out/f.tar")->{out};
});
SKIP: {
	find_tool('sha1sum') or skip 'sha1sum is not installed', 1;
	is((split ' ', run('sha1sum', $m->path('sha1sum.properties'))->{out})[0], sha(want('sha1sum')), 'sha1sum');
}
is((split ' ', run('wc', '-c', $m->path('wc.properties'))->{out})[0], length want('wc'), 'wc -c');
SKIP: {
	my @java = java_helper('LoadProperties', $m->path('javabytes.properties'), 'bytes', 'stream');
	skip 'java is not installed', 1 unless @java;
	my $r = run(@java, { timeout => 60 });
	like($r->{out}, qr/^bytes ${\length want('javabytes')} /, 'Java: readAllBytes') or diag $r->{err};
}

# The whole directory, of which some have never been opened
SKIP: {
	my $t = find_tool('tar') or skip 'tar is not installed', 2;
	my $r = run($t, '-C', $m->dir, '--exclude=./.connectfs', '-cf', "$out/all.tar", '.');
	is($r->{status}, 0, 'tar of the mount') or diag $r->{err};
	is(run($t, '-xOf', "$out/all.tar", './tarall.properties')->{out}, want('tarall'), '… has it whole');
}
SKIP: {
	my $t = find_tool('rsync') or skip 'rsync is not installed', 3;
	mkdir "$out/rs";
	my $r = run($t, '-a', '--exclude=.connectfs', $m->dir . '/', "$out/rs/");
	is($r->{status}, 0, 'rsync -a of the mount') or diag $r->{err};
	is(slurp("$out/rs/dir1.properties"), want('dir1'), '… has it whole');
	$r = run($t, '-ai', '--exclude=.connectfs', $m->dir . '/', "$out/rs/");
	unlike($r->{out}, qr/^>f/m, '… and the second time there is nothing to copy');
}
SKIP: {
	my $t = find_tool('cp') or skip 'cp is not installed', 1;
	run($t, '-r', $m->dir, "$out/cpr");
	is(slurp("$out/cpr/dir2.properties"), want('dir2'), 'cp -r of the mount');
}
is(run('grep', '-rl', 'end=1', '--exclude-dir=.connectfs', $m->dir)->{out} =~ tr/\n//, @ways + 3, 'grep -r finds all');

done_testing;
