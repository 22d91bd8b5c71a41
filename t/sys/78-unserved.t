# Settings that have gone bad, and a worker that dies: readers wait for a while, not for ever, and all heals by itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $d = tmp_dir();
mkdir "$d/stored";
spew("$d/stored/a.properties", "a=1\n");
my %good = ('connectfs.store.directory' => "$d/stored");
settings_file("$d/c.properties", %good);
my $m = mount_fs(source => "$d/c.properties");
my $f = $m->path('a.properties');
read_is($f, "a=1\n", 'reads');
eventually(sub { $m->log =~ /msg=mounted/ }, 10);
settings_file("$d/c.properties", %good, 'connectfs.nonsense' => 1);
kill KILL => $m->pid('worker');
my $p = start('cat', $f);
ok(eventually(sub { $p->ended }, 40), 'settings that have gone bad: a reader does not wait for ever');
isnt($p->output, "a=1\n", '… it has an error');
like($m->log, qr/c\.properties:\d+: connectfs\.nonsense/, '… the log says why');
settings_file("$d/c.properties", %good);
ok(eventually(sub { $m->mounted && (eval { slurp($f) } // '') eq "a=1\n" }, 40), 'good again: it is mounted anew');
ok($m->stop, 'ends');
done_testing;
