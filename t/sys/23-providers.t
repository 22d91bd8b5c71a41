# The providers file, directory and env, with Kafka's parameters and class names; the draft of KIP-297.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $d = tmp_dir();
mkdir "$d/$_" for qw(stored secrets secrets/dir secrets/dir/sub outside);
spew("$d/secrets/db.properties", "user=rw\npw=p1\n");
spew("$d/outside/x.properties", "user=outside\n");
spew("$d/secrets/dir/token", "tok\n");
spew("$d/secrets/dir/.dot", "dotted");
spew("$d/secrets/dir/sub/inner", "inner");
symlink "$d/outside/x.properties", "$d/secrets/link.properties";
symlink 'token', "$d/secrets/dir/alias";
spew("$d/env", "FROM_FILE=ff\nOTHER=oo\n");
my %stored = (
	file => "a=\${f:$d/secrets/db.properties:user}\n",
	dots => "a=\${f:$d/secrets/../secrets/./db.properties:user}\n",
	outside => "a=\${f:$d/outside/x.properties:user}\n",
	dotdot => "a=\${f:$d/secrets/../outside/x.properties:user}\n",
	link => "a=\${f:$d/secrets/link.properties:user}\n",
	dir => "a=\${dir:$d/secrets/dir:token}|\${dir:$d/secrets/dir:alias}|\${dir:$d/secrets/dir:.dot}|\n",
	dirsub => "a=\${dir:$d/secrets/dir:sub}\n",
	dirup => "a=\${dir:$d/secrets/dir:../db.properties}\n",
	env => "a=\${env:CFS_ONE}\nb=\${env::CFS_TWO}\n",
	envno => "a=\${env:NOT_ALLOWED}\n",
	envfile => "a=\${ef:FROM_FILE}\n",
	kip => "a=\${kip:user} \${kip:pw}\n",
	nopath => "a=\${f:user}\n",
	noclass => "a=\${nc:p:k}\n",
	relative => "a=\${any:secrets/db.properties:user} \${rel:pw}\n",
);
spew("$d/stored/$_.properties", $stored{$_}) for keys %stored;
settings_file("$d/worker.properties",
	'bootstrap.servers' => 'localhost:9092', 'group.id' => 'connect', 'plugin.path' => '/opt/connect',
	'config.providers' => ' f, dir ,env,ef,kip,nc,any,rel',
	'config.providers.f.class' => 'org.apache.kafka.common.config.provider.FileConfigProvider',
	'config.providers.f.param.allowed.paths' => "$d/secrets",
	'config.providers.dir.class' => 'org.apache.kafka.common.config.provider.DirectoryConfigProvider',
	'config.providers.env.class' => 'org.apache.kafka.common.config.provider.EnvVarConfigProvider',
	'config.providers.env.param.allowlist.pattern' => 'CFS_.*',
	'config.providers.ef.class' => 'env', 'config.providers.ef.param.environment.file' => "$d/env",
	'config.providers.kip.class' => 'org.apache.kafka.connect.configs.FileConfigProvider',
	'config.providers.kip.param.secrets' => "$d/secrets/db.properties",
	'config.providers.any.class' => 'file',
	'config.providers.rel.class' => 'file', 'config.providers.rel.param.secrets' => 'secrets/db.properties',
	'connectfs.store.directory' => 'stored');
my $m = mount_fs(source => "$d/worker.properties", run_dir => $d, env => { CFS_ONE => 'one', CFS_TWO => 'two', NOT_ALLOWED => 'no' });

read_is($m->path('file.properties'), "a=rw\n", "FileConfigProvider by Kafka's class name, in a worker's file, its directory relative");
read_is($m->path('dots.properties'), "a=rw\n", 'allowed.paths: after normalisation');
is_errno(($m->cat("$_.properties"))[1], 'ENOKEY', "allowed.paths: $_") for qw(outside dotdot link);
like($m->attr('outside.properties', 'error') // '', qr/allowed\.paths/, '… .error names allowed.paths');
read_is($m->path('dir.properties'), "a=tok\\n|tok\\n|dotted|\n", 'DirectoryConfigProvider: whole files, newline kept, symlinks and dot files');
is_errno(($m->cat('dirsub.properties'))[1], 'ENOKEY', '… a directory is no key');
is_errno(($m->cat('dirup.properties'))[1], 'ENOKEY', '… nor is what lies elsewhere');
read_is($m->path('env.properties'), "a=one\nb=two\n", 'EnvVarConfigProvider');
is_errno(($m->cat('envno.properties'))[1], 'ENOKEY', '… allowlist.pattern');
read_is($m->path('envfile.properties'), "a=ff\n", '… environment.file');
read_is($m->path('kip.properties'), "a=rw p1\n", "the draft of KIP-297: param.secrets gives references without a path theirs");
read_is($m->path('relative.properties'), "a=rw p1\n", 'relative paths are from where it was started');
is_errno(($m->cat('nopath.properties'))[1], 'ENOKEY', 'file without a path has nothing');
read_is($m->path('noclass.properties'), $stored{noclass}, 'a provider without a class stays literal, as in Kafka');

# They rotate
my $w = watch($m->path('dir.properties'), $m->path('kip.properties'));
replace("$d/secrets/dir/token", "tok2\n");
ok($w->await('MODIFY', 5), 'a file of a directory rotates');
read_is($m->path('dir.properties'), "a=tok2\\n|tok2\\n|dotted|\n", '… through its alias too');
$w->drain(0.1);
spew("$d/secrets/db.properties", "user=rw2\npw=p2\n");
ok($w->await('MODIFY', 5), "KIP-297's file rotates");
read_is($m->path('kip.properties'), "a=rw2 p2\n", '… and is read');
unlink "$d/secrets/dir/.dot";
is_errno(($m->cat('dir.properties'))[1], 'ENOKEY', 'a file of a directory is removed: ENOKEY');
spew("$d/secrets/dir/.dot", 'back');
eventually(sub { (($m->cat('dir.properties'))[0] // '') eq "a=tok2\\n|tok2\\n|back|\n" }, 3, '… and comes back');

# KIP-297 with a directory
settings_file("$d/kipdir.properties", 'config.providers' => 'kip', 'connectfs.store.directory' => "$d/stored2",
	'config.providers.kip.class' => 'org.apache.kafka.connect.configs.FileConfigProvider',
	'config.providers.kip.param.secrets' => "$d/secrets/dir");
mkdir "$d/stored2";
spew("$d/stored2/kip.properties", "a=\${kip:token}\nb=\${file:x:y}\n");
my $k = mount_fs(source => "$d/kipdir.properties");
read_is($k->path('kip.properties'), "a=tok2\\n\nb=\${file:x:y}\n", "param.secrets may be a directory; what the settings don't have stays literal");

# Bad parameters are told at the start
for my $bad ('relative', "$d/none", "$d/secrets, $d/outside") {
	my $r = mount_fails(source => "$d/worker.properties", settings => { 'config.providers.f.param.allowed.paths' => $bad });
	is($r->{status}, 2, "allowed.paths=$bad: exit status 2");
	like($r->{err}, qr/allowed\.paths.*(?:is not absolute|does not exist)/, "… in Kafka's words");
}
my $r = mount_fails(source => "$d/worker.properties", settings => { 'config.providers.env.param.allowlist.pattern' => '(' });
is($r->{status}, 2, 'a bad pattern: exit status 2');
like($r->{err}, qr/allowlist\.pattern/, '… names it');

done_testing;
