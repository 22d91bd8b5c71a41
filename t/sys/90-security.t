# Secrets stay secret: canaries in secrets, every verb, every error path, a worker's crash; then a search of all that was left.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $cfs = program();
my $d = tmp_dir();
mkdir "$d/$_" for qw(stored secret secret/dir cwd);
chmod 0711, base_dir();

# Each canary is random, so that no other test's can be found; none is in this process' arguments or in a file
# but those under secret/
my $random = sub { open(my $f, '<', '/dev/urandom'); read $f, my $b, 12; unpack 'H*', $b };
my %canary = map { $_ => "Kanary$_" . $random->() } qw(File Dir Env Bad Long Old New Literal);
sub write_secret { my ($c) = @_; replace("$d/secret/s.properties", "user=$canary{$c}\npassword=$canary{File}\nlong=" . "$canary{Long}-" x 2000 . "\n") }
write_secret('Old');
spew("$d/secret/dir/token", $canary{Dir});
spew("$d/secret/env", "TOKEN=$canary{Env}\n");
spew("$d/secret/malformed.properties", "user=$canary{Bad}\n$canary{Bad}=\\u12$canary{Bad}\n$canary{Bad}");
spew("$d/secret/latin1.properties", "user=$canary{Bad}\xff\n");
spew("$d/secret/env.bad", "$canary{Bad} without a sign\n=\n");
my $S = "$d/secret/s.properties";
my %stored = (
	'a.properties' => "name=a\nuser=\${file:$S:user}\npw=\${file:$S:password}\n",
	'b.json' => qq({"name":"b","config":{"pw":"\${file:$S:password}","t":"\${directory:$d/secret/dir:token}"}}),
	'c.properties' => "t=\${directory:$d/secret/dir:token}\ne=\${env:TOKEN}\n",
	'long.properties' => join('', map { "l$_=\${file:$S:long}\n" } 1 .. 20),
	'toobig.properties' => join('', map { "l$_=\${file:$S:long}\n" } 1 .. 90),
	'nokey.properties' => "a=\${file:$S:nokey}\nb=\${file:$S:password}\n",
	'malformed.properties' => "a=\${file:$d/secret/malformed.properties:user}\n",
	'latin1.properties' => "a=\${file:$d/secret/latin1.properties:user}\n",
	'none.properties' => "a=\${file:$d/secret/none:user}\n",
	'mixed.properties' => "a=\${nosuch:p:k} \${file:$S:password}\n",
	# A secret written into the stored config itself, beside what is wrong with it
	'broken.json' => qq({"pw":"$canary{Literal}",\n "x": $canary{Literal} }),
	'broken.properties' => "pw=$canary{Literal}\nx=\\u12$canary{Literal}\n",
	'dup.json' => qq({"pw":"$canary{Literal}","pw":"$canary{Literal}"}),
);
spew("$d/stored/$_", $stored{$_}) for keys %stored;
settings_file("$d/settings.properties", 'config.providers' => 'file,directory,env',
	map({ ("config.providers.$_.class" => $_) } qw(file directory env)), 'config.providers.env.param.environment.file' => "$d/secret/env",
	'connectfs.store.directory' => "$d/stored", 'connectfs.log.level' => 'debug');

my @outputs; # [what, bytes]
sub keep { my ($what, @bytes) = @_; push @outputs, map { [$what, $_] } @bytes }
sub verb {
	my (@args) = @_;
	my $r = run($cfs, @args, { dir => "$d/cwd", timeout => 30 });
	keep("connectfs $args[0]", $r->{out}, $r->{err});
	return $r;
}

# A worker that crashes must leave no core although cores are allowed
my $m = mount_fs(source => "$d/settings.properties", run_dir => "$d/cwd", prefix => ['sh', '-c', 'ulimit -c unlimited 2>/dev/null; exec "$@"', 'sh']);
my $mnt = $m->dir;
my @names = sort keys %stored;
sub read_all { $m->cat($_) for @names; }
read_all();
like(slurp($m->path('a.properties')), qr/\Q$canary{Old}\E.*\Q$canary{File}\E/s, 'the canaries are there');
like(slurp($m->path('c.properties')), qr/\Q$canary{Dir}\E.*\Q$canary{Env}\E/s, '… all of them');

# Every verb
verb('check', "$d/settings.properties");
verb('check', '--online', "$d/settings.properties");
verb('status', $mnt);
verb('status', '--json', $mnt);
verb('refresh', $mnt);
verb('refresh', $mnt, 'a', 'nobody');
for (qw(nokey malformed latin1 none toobig broken.json broken.properties)) {
	my $r = run($cfs, 'render', "$d/settings.properties", $_);
	is($r->{out}, '', "render $_: nothing on standard output");
	keep("render $_", $r->{err});
}
my $r = run($cfs, 'render', "$d/settings.properties", 'a');
like($r->{out}, qr/\Q$canary{File}\E/, 'render shows it, on standard output');
keep('render, standard error', $r->{err});
keep('mounted twice', do { my $x = mount_fails(source => "$d/settings.properties", mountpoint => $mnt); ($x->{out}, $x->{err}) });
keep('bad environment file', do { my $x = mount_fails(source => "$d/settings.properties", settings => { 'config.providers.env.param.environment.file' => "$d/secret/env.bad" }); ($x->{out}, $x->{err}) });
ConnectFS::Guard::detach($_->{at}) for grep { $_->{at} ne $mnt } ConnectFS::Guard::mounts_below(base_dir());

# Rotation, breaking, healing
write_secret('New');
eventually(sub { slurp($m->path('a.properties')) =~ /\Q$canary{New}\E/ }, 5, 'rotated');
spew($S, "user=$canary{New}\npassword=\\u1$canary{File}\n");
read_all();
write_secret('New');
read_all();

# What the kernel tells of the processes
my %pid = %{$m->pids};
sub status_of { my ($pid) = @_; return { slurp("/proc/$pid/status") =~ /^(\w+):\s*(.*)$/mg } }
my $worker = status_of($pid{worker});
SKIP: {
	locks_memory() or skip 'a sanitizer has made mlock do nothing', 1;
	cmp_ok((split ' ', $worker->{VmLck})[0], '>', 0, "the worker has locked memory ($worker->{VmLck})");
}
is(status_of($pid{notifier})->{VmSwap} // '0 kB', '0 kB', 'the notifier swaps nothing');
for my $role (qw(supervisor worker notifier)) {
	my $limits = slurp("/proc/$pid{$role}/limits") if is_root();
	like($limits, qr/^Max core file size\s+0\s+0\s/m, "$role: no core") if is_root();
	# Not dumpable: its files in /proc belong to root, whoever runs it
	is((stat "/proc/$pid{$role}/environ")[4], 0, "$role: not dumpable (/proc/PID belongs to root)") unless is_root();
	my $as_same = sub { my ($path) = @_; return run(no_caps('cat', $path), { timeout => 10 }) };
	for my $file (qw(mem environ maps auxv pagemap smaps)) {
		my $x = $as_same->("/proc/$pid{$role}/$file");
		isnt($x->{status}, 0, "$role: /proc/PID/$file can't be read by the same user without capabilities");
		keep("/proc of $role", $x->{out});
	}
	my $x = run(no_caps('ls', '-l', "/proc/$pid{$role}/fd"));
	isnt($x->{status}, 0, "$role: nor can its descriptors be listed");
	SKIP: {
		my $strace = find_tool('strace') or skip 'strace is not installed', 1;
		$x = run(no_caps($strace, '-p', $pid{$role}), { timeout => 3 });
		like($x->{err}, qr/Operation not permitted|attach/, "$role: it can't be traced");
	}
	# All that others may read of it
	my @others = is_root() ? (as_user(65534, 65534)) : ();
	for my $file (grep { !/^(?:mem|task|net|kmsg|pagemap|map_files|cwd|root|exe|fd|fdinfo|ns|attr)$/ } @{ls_names("/proc/$pid{$role}") // []}) {
		my $path = "/proc/$pid{$role}/$file";
		next unless -f $path;
		$x = run(@others, 'cat', $path, { timeout => 10 });
		keep("$path of $role", $x->{out});
		next unless is_root();
		my $direct = '';
		if (sysopen(my $f, $path, O_RDONLY)) { 1 while sysread $f, $direct, 65536, length $direct }
		keep("$path of $role, read by root", $direct) if $file =~ /^(?:cmdline|environ|comm|status|stat|maps|smaps|limits|mountinfo|mounts|auxv|stack|wchan|syscall)$/;
	}
}

# A worker's crash
for my $sig (qw(SEGV ABRT KILL)) {
	my $before = $m->pids->{worker};
	kill $sig => $before;
	eventually(sub { my $p = eval { $m->pids }; $p && $p->{worker} && $p->{worker} != $before }, 15, "the worker is ended by SIG$sig; another one comes");
	read_all();
}
keep('the status', slurp($m->control('status.json')));
keep('the metrics', slurp($m->control('metrics')));
for my $name (@names) {
	keep("attributes of $name", map { xattr($m->path($name), $_) // '' } @{xattr_names($m->path($name)) // []});
	my $x = find_tool('getfattr') ? run('getfattr', '--absolute-names', '-d', $m->path($name)) : { out => '' };
	keep("getfattr $name", $x->{out});
}
keep('a directory listing', run('ls', '-laR', $mnt)->{out});
verb('status', $mnt);
ok($m->stop, 'ends');
keep('the log', $m->log);
like($m->log, qr/level=debug/, 'the log is at level debug');
keep('mounting in the background', do { my $b = mount_fs(source => "$d/settings.properties", background => 1, run_dir => "$d/cwd"); $b->cat($_) for @names; $b->stop; ($b->{run}{out}, $b->{run}{err}) });

# The search
for my $c (sort keys %canary) {
	my %found;
	$found{$_->[0]}++ for grep { index($_->[1] // '', $canary{$c}) >= 0 } @outputs;
	is_deeply(\%found, {}, "$c: in none of " . @outputs . ' outputs');
	# In pieces, or encoded
	my $half = substr $canary{$c}, 6, 16;
	%found = ();
	$found{$_->[0]}++ for grep { index($_->[1] // '', $half) >= 0 } @outputs;
	is_deeply(\%found, {}, "$c: nor a part of it");
}

# The file system: the test's own directory without the secrets, and what else the program may write
my @places = grep { -d } "$d/cwd", "$d/stored", base_dir() . '/run', '/run/connectfs', "/tmp/connectfs-$>", '/dev/shm', '/var/crash', '/var/lib/systemd/coredump';
my $hits = '';
for my $place (@places, $mnt) {
	my $x = run('grep', '-rlaE', '--devices=skip', 'Kanary(' . join('|', grep { $_ ne 'Literal' } sort keys %canary) . ')[0-9a-f]{24}', $place, { timeout => 60 });
	$hits .= $x->{out} unless $place eq base_dir() . '/run';
	next unless $place eq base_dir() . '/run';
	# There lie the outputs of what this test started, "render a" among them
	for my $file (split /\n/, $x->{out}) { $hits .= "$file\n" unless slurp($file) eq $r->{out} || slurp($file) =~ /\A/ && $file =~ m{/(?:in)\.} }
}
is($hits, '', 'no file holds a canary') or diag $hits;
my @cores = map { glob("$_/core*") } "$d/cwd", $d, base_dir(), '/';
@cores = grep { -f && -s && (stat)[9] >= $^T - 5 } @cores;
is_deeply(\@cores, [], 'no core was left');
is_deeply(ls_names("$d/cwd"), [], 'nothing at all was written into the working directory');
done_testing;
