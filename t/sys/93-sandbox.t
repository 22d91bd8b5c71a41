# Least privilege: what worker and notifier have given up, and what becomes of a worker that somebody has taken over.
use strict;
use warnings;
no warnings "portable"; # capabilities have 64 bits
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

my $d = tmp_dir();
mkdir "$d/$_" for qw(stored secret other);
chmod 0711, base_dir();
my $file = spew("$d/secret/db.properties", "password=one\n");
my $outside = spew("$d/other/outside", "k=1\n");
chmod 0644, $file, $outside;
spew("$d/stored/good.properties", "password=\${file:$file:password}\n");
spew("$d/stored/directory.properties", "v=\${directory:$d/secret:db.properties}\n");

my %settings = (
	'config.providers' => 'file,directory,escape',
	'config.providers.file.class' => 'file',
	'config.providers.file.param.allowed.paths' => "$d/secret",
	'config.providers.directory.class' => 'directory',
	'config.providers.directory.param.allowed.paths' => "$d/secret",
	'config.providers.escape.class' => 'escape',
	'connectfs.store.directory' => "$d/stored");
settings_file("$d/connectfs.properties", %settings);
sub of_process { my ($pid) = @_; return { slurp("/proc/$pid/status") =~ /^(\w+):\s*(.*)$/mg } }

my $m = mount_fs(source => "$d/connectfs.properties", slow => 1);
my $p = $m->status->{protections};
is_deeply([sort keys %$p], [sort qw(seccomp files network capabilities no_new_privs not_dumpable memory_lock)], 'the status names the protections');
for (sort keys %$p) { is(!!$p->{$_}{in_force}, !defined $p->{$_}{why}, "$_: " . ($p->{$_}{why} // 'in force')) }
my ($seccomp, $landlock) = map { $p->{$_}{in_force} } qw(seccomp files);
ok($p->{$_}{in_force}, "$_ is in force") for qw(capabilities no_new_privs not_dumpable);
my $of_notifier = eventually(sub { $m->status->{notifier_protections} }, 5, 'and those of the notifier');
is_deeply([sort keys %$of_notifier], [sort grep { $_ ne 'memory_lock' } keys %$p], '… which are the same');
is_deeply($of_notifier->{$_}, { in_force => $p->{$_}{in_force}, why => $p->{$_}{why} }, "… $_ too: " . ($of_notifier->{$_}{why} // 'in force'))
	for $seccomp ? sort keys %$of_notifier : qw(capabilities no_new_privs not_dumpable);
ok($seccomp || $p->{seccomp}{why} =~ /^this build /, 'seccomp is, but in builds that need more');
ok($landlock || $p->{files}{why} =~ /^this build |no Landlock|switched off/, 'Landlock is, where kernel and build have it');

# As the kernel tells it
eventually(sub { $m->pids->{notifier} }, 5, 'the notifier is there');
my ($may) = slurp('/proc/self/status') =~ /^CapPrm:\s*(\w+)$/m;
for my $role (qw(worker notifier)) {
	my $s;
	# The notifier is known before it has come so far
	eventually(sub { $s = of_process($m->pid($role)); $s->{NoNewPrivs} && ($s->{Seccomp} || !$seccomp) && hex($s->{CapEff}) < 1 << 15 }, 5, "$role: is confined");
	is($s->{Seccomp}, $seccomp ? 2 : 0, '… Seccomp');
	is($s->{NoNewPrivs}, 1, '… NoNewPrivs');
	my $want = $role eq 'worker' ? hex($may) & 1 << 14 : 0;
	is(hex $s->{$_}, $want, "… $_") for qw(CapPrm CapEff);
	is(hex $s->{$_}, 0, "… $_") for qw(CapInh CapAmb);
	is(hex($s->{CapBnd}) & ~(1 << 14), 0, '… CapBnd') if is_root() && hex($may) & 1 << 8;
	my @threads = map { m{^/proc/(.*)/status$} ? of_process($1) : () } glob('/proc/' . $m->pid($role) . '/task/*/status');
	is(scalar(grep { $_->{Seccomp} != ($seccomp ? 2 : 0) || $_->{NoNewPrivs} != 1 || hex($_->{CapEff}) != $want } @threads), 0, '… all ' . @threads . ' threads') if $seccomp;
}

# What it is for goes on
read_is($m->path('good.properties'), "password=one\n", 'a secret below allowed.paths is read');
replace($file, "password=two\n");
read_is($m->path('good.properties'), "password=two\n", '… renamed over');
rename "$d/secret/db.properties", "$d/secret/old";
spew($file, "password=three\n");
eventually(sub { (($m->cat('good.properties'))[0] // '') eq "password=three\n" }, 5, '… made anew');
my $w = watch($m->path('good.properties'));
spew($file, "password=four\n");
ok($w->await('MODIFY', 5), 'a rotation is announced');
$w = watch($m->dir);
spew("$d/stored/new.properties", "k=1\n");
ok($w->await('CREATE', 5), 'a new connector is announced');
unlink "$d/stored/new.properties";
ok($w->await('DELETE', 5), '… and its end');
my $r = run(program(), 'status', $m->dir);
like($r->{out}, qr/^1 secret|; 1 secret/m, 'connectfs status');
unlike($r->{out}, qr/not in force/, '… nothing is lacking') if $seccomp && $landlock;

# Attempts that the kernel refuses, and that leave the worker as it is
sub try_it {
	my ($what, $arg) = @_;
	spew("$d/stored/try.properties", "k=\${escape:$what $arg:k}\n");
	my ($bytes, $errno);
	eventually(sub { ($bytes, $errno) = $m->cat('try.properties'); ($errno // 0) != ENOENT && ($errno // 0) != ENOTCONN }, 10, "$what $arg: an answer");
	unlink "$d/stored/try.properties";
	eventually(sub { !-e $m->path('try.properties') }, 10, '… the attempt is over');
	return $errno ? errno_name($errno) : $bytes =~ /^k=(.*)$/ ? $1 : $bytes;
}
my $worker = $m->pids->{worker};
is(try_it('nothing', ''), 'done', 'an attempt that is none');
is(try_it('read', $file), 'done', 'reading what is allowed');
SKIP: {
	skip 'no Landlock', 1 unless $landlock;
	is(try_it('read', $outside), 'EACCES', 'reading a file outside is refused');
	is(try_it('read', '/etc/shadow'), 'EACCES', '/etc/shadow');
	is(try_it('read', '/etc/passwd'), 'EACCES', '/etc/passwd');
	is(try_it('read', '/proc/1/environ'), 'EACCES', 'the environment of another process');
	is(try_it('list', '/'), 'EACCES', 'listing /');
	is(try_it('list', "$d/other"), 'EACCES', 'listing a directory outside');
	is(try_it('openat2', $outside), 'EACCES', 'writing by openat2, outside');
	is(try_it('openat2', $file), 'EACCES', 'writing by openat2, inside');
}
SKIP: {
	skip 'no seccomp', 1 unless $seccomp;
	is(try_it('code', ''), 'EACCES', 'memory for new code is refused');
}
is($m->pids->{worker}, $worker, 'the worker lives');

ok($m->stop, 'ends');

# Those that end it; each on a mount of its own, since a worker that dies again and again is started ever later
for my $try (['make', "$d/secret/made"], ['append', $file], ['append', $outside], ['unlink', $file], ['rmdir', "$d/other"],
             ['chmod', $file], ['exec', '/bin/true'], ['fork', ''], ['mount', "$d/other"], ['umount', '/proc'], ['trace', ''],
             ['kill', ''], ['listen', ''], ['connect', '1'], ['unix', "$d/none"], ['namespace', '']) {
	SKIP: {
		my ($what, $arg) = @$try;
		skip "without seccomp: $what", 1 if !$seccomp && ($what !~ /^(?:make|append|unlink|rmdir|exec|mount)$/ || !$landlock);
		$m = mount_fs(source => "$d/connectfs.properties", slow => 1);
		my $before = $m->pid('worker');
		spew("$d/stored/try.properties", "k=\${escape:$what $arg:k}\n");
		my ($bytes, $errno);
		eventually(sub { ($bytes, $errno) = $m->cat('try.properties'); ($errno // 0) != ENOENT }, 10, "$what $arg");
		unlink "$d/stored/try.properties";
		if (!$seccomp) {
			like($bytes // '', qr/^k=E(?:ACCES|PERM)$/, '… is refused');
			$m->stop;
			next;
		}
		is(errno_name($errno // 0), 'EIO', '… the reader gets an error, after the second death by the same request');
		eventually(sub { my $p = eval { $m->pids }; $p && $p->{worker} && $p->{worker} != $before }, 15, '… another one comes');
		cmp_ok(scalar $m->log_lines(qr/worker died.*(?:signal 31|Bad system call)/), '>=', 1, '… the log says of what it died');
		eventually(sub { my ($b) = $m->cat('good.properties'); ($b // '') eq "password=four\n" }, 10, '… the mount works again');
		is(of_process($m->pids->{worker})->{Seccomp}, 2, '… confined as before');
		ok($m->stop, '… and ends');
	}
}
ok(!-e "$d/secret/made", 'no file was made');
is(slurp($file), "password=four\n", 'none was changed');
ok(-d "$d/other", '… or removed');

# Files where a provider has no allowed.paths
delete $settings{'config.providers.directory.param.allowed.paths'};
settings_file("$d/connectfs.properties", %settings);
$m = mount_fs(source => "$d/connectfs.properties", slow => 1);
SKIP: {
	skip 'no Landlock', 1 unless $landlock;
	is($m->status->{protections}{files}{why}, 'not confined, set allowed.paths', 'a provider without allowed.paths: the status says so');
	$r = run(program(), 'status', $m->dir);
	like($r->{out}, qr/^not in force: files: not confined, set allowed\.paths/m, '… and connectfs status');
	is(try_it('read', $outside), 'done', '… all can be read');
	is(try_it('openat2', $outside), 'EACCES', '… and nothing written');
	unlike($m->log, qr/protection is not in force.*protection=files/, '… which is no warning');
}
ok($m->stop, 'ends');

# connectfs.sandbox
my %r = (source => "$d/stored", settings => { 'connectfs.sandbox' => 'require' });
if ($seccomp && $landlock) {
	my $q = mount_fs(%r);
	read_is($q->path('good.properties'), "password=four\n", 'connectfs.sandbox=require: mounts, and is read');
	ok($q->stop, 'ends');
	# A notifier that lacks something
	$r{env} = { PATH => "$ENV{PATH}:/notifier-lacks-seccomp" };
	my $lacks = 'seccomp: this kernel has no seccomp filters';
	for my $o ([], [background => 1]) {
		$r = mount_fails(%r, slow => 1, @$o);
		is($r->{status}, 2, "a notifier that lacks something: exit status 2 (@$o)");
		is($r->{err} =~ /^(connectfs\.sandbox.*)$/m ? $1 : $r->{err}, "connectfs.sandbox=require: the notifier: not all protections can be had: $lacks", '… it says what');
		is(scalar @{$r->{mounts}}, 0, '… nothing is mounted');
	}
	$r = mount_fails(%r, slow => 1, env => { PATH => "$ENV{PATH}:/notifier-hangs" });
	is($r->{status}, 2, 'one that does not say what it lacks: exit status 2');
	is($r->{err} =~ /^(connectfs\.sandbox.*)$/m ? $1 : $r->{err}, 'connectfs.sandbox=require: the notifier does not say how it is confined', '… it says so');
	$q = mount_fs(%r, slow => 1, settings => {});
	ok(eventually(sub { my $n = $q->status->{notifier_protections}; $n && !$n->{seccomp}{in_force} }, 5), 'else the status says so');
	is($q->status->{notifier_protections}{seccomp}{why}, 'this kernel has no seccomp filters', '… and why');
	ok($q->status->{protections}{seccomp}{in_force}, '… of the notifier alone');
	ok($q->status->{notifier_protections}{files}{in_force}, '… and of this protection');
	like(run(program(), 'status', $q->dir)->{out}, qr/^not in force in the notifier: \Q$lacks\E$/m, '… so does connectfs status');
	like($q->log, qr/level=warn.*the notifier lacks a protection.*protection=seccomp/, '… the log has a warning');
	$w = watch($q->path('good.properties'));
	read_is($q->path('good.properties'), "password=four\n", '… it is mounted');
	replace($file, "password=five\n");
	ok($w->await('MODIFY', 5), '… and tells what changes');
	replace($file, "password=four\n");
	# By a reload, with a mount that is there
	my $settings = settings_file("$d/require.properties", 'config.providers' => 'file', 'config.providers.file.class' => 'file', 'config.providers.file.param.allowed.paths' => "$d/secret", 'connectfs.store.directory' => "$d/stored");
	ok($q->stop, '… and ends');
	$q = mount_fs(%r, slow => 1, settings => {}, source => $settings);
	append($settings, "connectfs.sandbox=require\n");
	is(run(test_program(), 'reload', $q->dir)->{status}, 0, 'where it is required only now, the mount stays');
	ok(eventually(sub { $q->log =~ /level=error.*not confined as connectfs\.sandbox=require wants.*\Q$lacks\E/ }, 5), '… and the log says what is wrong') or diag $q->log;
	read_is($q->path('good.properties'), "password=four\n", '… it is read');
	ok($q->stop, '… and ends');
} else {
	$r = mount_fails(%r);
	is($r->{status}, 2, 'connectfs.sandbox=require: exit status 2 where something is lacking');
	like($r->{err}, qr/^connectfs\.sandbox=require: .*(?:seccomp|files): /, '… which it names');
}
$r = mount_fails(source => "$d/stored", settings => { 'connectfs.sandbox' => 'perhaps' });
like($r->{err}, qr/connectfs\.sandbox.*neither try nor require/, 'a value that is none');

# In the background: standard error goes where it has to
my $b = mount_fs(source => "$d/stored", background => 1);
read_is($b->path('good.properties'), "password=four\n", 'in the background');
is(readlink('/proc/' . $b->pid('worker') . "/fd/$_"), '/dev/null', "… descriptor $_ is /dev/null") for is_root() ? (0, 1) : ();
ok($b->stop, 'ends');

done_testing;
