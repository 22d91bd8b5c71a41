# Watchers of other people: inotifywait, Java's WatchService, Node's fs.watch.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "k=0\n");
spew("$src/orders.properties", "k=\${file:$S:k}\n");
my $m = mount_fs(source => $src);
my $f = $m->path('orders.properties');
read_is($f, "k=0\n", 'read');
my $n = 0;
sub rotate { replace($S, 'k=' . ++$n . "\n") }

SKIP: {
	my $tool = find_tool('inotifywait') or skip 'inotifywait is not installed', 5;
	my $on_file = start($tool, '-m', '--format', '%e', $f);
	my $on_dir = start($tool, '-m', '-e', 'modify,attrib,create,delete', '--format', '%e %f', $m->dir);
	ok(eventually(sub { $_->errors =~ /Watches established/ }, 10), 'inotifywait watches') for $on_file, $on_dir;
	rotate();
	eventually(sub { $on_file->output =~ /ATTRIB/ && $on_dir->output =~ /ATTRIB/ }, 5);
	sleep 0.2;
	is($on_file->output, "MODIFY\nATTRIB\n", 'on the file: MODIFY, ATTRIB');
	is($on_dir->output, "MODIFY orders.properties\nATTRIB orders.properties\n", 'on the directory: with the name');
	$_->signal('TERM') for $on_file, $on_dir;
	my $once = start($tool, '-q', '-t', 10, '-e', 'modify', $f);
	eventually(sub { my $t = $once->pid; open(my $i, '<', "/proc/$t/fdinfo/3") or return 0; grep { /^inotify wd/ } <$i> }, 5);
	sleep 0.05;
	rotate();
	my $r = $once->finish(10);
	is($r->{status}, 0, 'inotifywait -e modify FILE, as the manual shows it, returns');
}

SKIP: {
	my @java = java_helper('WatchDirectory', $m->dir);
	skip 'java is not installed', 5 unless @java;
	my $p = start(@java);
	ok(eventually(sub { $p->output =~ /^ready/ }, 30), "Java's WatchService watches") or diag $p->errors;
	rotate();
	ok(eventually(sub { $p->output =~ /^ENTRY_MODIFY orders\.properties$/m }, 5), '… ENTRY_MODIFY');
	spew("$src/new.properties", "a=1\n");
	ok(eventually(sub { $p->output =~ /^ENTRY_CREATE new\.properties$/m }, 5), '… ENTRY_CREATE');
	unlink "$src/new.properties";
	ok(eventually(sub { $p->output =~ /^ENTRY_DELETE new\.properties$/m }, 5), '… ENTRY_DELETE');
	unlike($p->output, qr/OVERFLOW|gone/, '… nothing else') or diag $p->output;
	$p->signal('KILL');
}

SKIP: {
	my $node = find_tool('node') or skip 'node is not installed', 4;
	my $file = start($node, helper_path('watch.js'), $f);
	my $dir = start($node, helper_path('watch.js'), $m->dir);
	ok(eventually(sub { $_->output =~ /^ready/ }, 20), "Node's fs.watch watches") for $file, $dir;
	rotate();
	ok(eventually(sub { $file->output =~ /^change orders\.properties$/m }, 5), '… change of the file') or diag $file->output;
	ok(eventually(sub { $dir->output =~ /^change orders\.properties$/m }, 5), '… and in the directory') or diag $dir->output;
	$_->signal('KILL') for $file, $dir;
}

SKIP: {
	my $py = find_tool('python3') or skip 'python3 is not installed', 1;
	# A poller by mtime
	my $p = start($py, '-c', 'import os,sys,time
f=sys.argv[1]; m=os.stat(f).st_mtime_ns; print("ready",flush=True)
while os.stat(f).st_mtime_ns==m: time.sleep(0.01)
print(open(f).read(),end="",flush=True)', $f);
	eventually(sub { $p->output =~ /ready/ }, 10);
	rotate();
	is($p->finish(patience(10))->{out}, "ready\nk=$n\n", 'who polls mtime sees it and reads the new value');
}

done_testing;
