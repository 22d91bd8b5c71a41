# Connectors that come and go.
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
spew("$src/stay.properties", "a=1\n");
my $m = mount_fs(source => $src);
my $w = watch($m->dir);
my $root = stx($m->dir)->{mtime_ns};

is((slurp_errno($m->path('new.properties')))[1], ENOENT, 'ENOENT before');
ok(!$m->stat('new.properties'), '… also for stat, which must not make the kernel remember it');
spew("$src/new.properties", "k=\${file:$S:k}\n");
ok($w->await('CREATE', 5, 'new.properties'), 'a stored file is added: IN_CREATE');
is(ConnectFS::Watcher::text($m->dir, $w->drain(0.3)), 'CREATE:new.properties', '… once, and nothing else');
read_is($m->path('new.properties'), "k=1\n", '… and it can be read');
ok((grep { $_ eq 'new.properties' } @{ls_names($m->dir)}), '… and is listed');
my $st = $m->stat('new.properties');
cmp_ok(stx($m->dir)->{mtime_ns}, '>', $root, "… the root's mtime has moved");
is($st->{nlink}, 1, '… it has one link');

# An event never comes before the file: who wakes up finds it
for my $i (1 .. 10) {
	spew("$src/wake$i.properties", "k=\${file:$S:k}\n");
	ok($w->await('CREATE', 5, "wake$i.properties"), "wake $i") or next;
	read_is($m->path("wake$i.properties"), "k=1\n", '… found by who was woken');
}
$w->drain(0.1);

# Renamed into place, as deployment tools do; other names first
spew("$src/x.properties.tmp", "a=1\n");
is(ConnectFS::Watcher::text($m->dir, $w->drain(0.2)), '', 'a name that is no connector makes no event');
rename "$src/x.properties.tmp", "$src/x.properties";
ok($w->await('CREATE', 5, 'x.properties'), 'renamed to one: IN_CREATE');
read_is($m->path('x.properties'), "a=1\n", '… and read');
rename "$src/x.properties", "$src/y.properties";
ok($w->await('DELETE', 5, 'x.properties'), 'renamed from one to another: IN_DELETE');
ok($w->await('CREATE', 5, 'y.properties'), '… and IN_CREATE');
read_is($m->path('y.properties'), "a=1\n", '… read under the new name');
is((slurp_errno($m->path('x.properties')))[1], ENOENT, '… ENOENT under the old one');
$w->drain(0.1);

# Removal; open descriptors go on
sysopen(my $held, $m->path('new.properties'), O_RDONLY) or die;
sysread($held, my $head, 2);
my $fw = watch($m->path('new.properties'));
unlink "$src/new.properties";
ok($w->await('DELETE', 5, 'new.properties'), 'a stored file is removed: IN_DELETE');
is(ConnectFS::Watcher::text($m->dir, $w->drain(0.3)), 'DELETE:new.properties', '… once, and nothing else');
is((slurp_errno($m->path('new.properties')))[1], ENOENT, '… ENOENT');
ok(!(grep { $_ eq 'new.properties' } @{ls_names($m->dir)}), '… not listed any more');
sysread($held, my $tail, 100);
is($head . ($tail // ''), "k=1\n", '… an open descriptor goes on');
is(-s $held, 4, '… fstat too');

# The same name comes back: the same node
spew("$src/new.properties", "k=back \${file:$S:k}\n");
ok($w->await('CREATE', 5, 'new.properties'), 'the same name is added again: IN_CREATE');
read_is($m->path('new.properties'), "k=back 1\n", '… with its new content');
is($m->stat('new.properties')->{ino}, $st->{ino}, '… as the same node');
sysseek($held, 0, 0);
sysread($held, my $again, 100);
is($again, "k=1\n", '… the descriptor of the old one still reads the old one');
close $held;
is($m->stat('new.properties')->{nlink}, 1, '… one link');
$w->drain(0.1);

# It rotates like any other
my $nw = watch($m->path('new.properties'));
replace($S, "k=2\n");
ok($nw->await('ATTRIB', 5), 'the one that came back rotates');
is(ConnectFS::Watcher::text($m->path('new.properties'), $nw->drain(0.2)), 'MODIFY ATTRIB', '… once');
read_is($m->path('new.properties'), "k=back 2\n", '… and is read');
$w->drain(0.1);

# Many at once
my $n = scale(300);
spew("$src/many$_.properties", "n=$_\n") for 1 .. $n;
ok(eventually(sub { (grep { /^many\d/ } @{ls_names($m->dir)}) == $n }, 10), "$n at once");
my @events = grep { $_->{name} =~ /^many/ } $w->drain(0.5);
is(scalar(grep { $_->{event} eq 'CREATE' } @events), $n, '… an IN_CREATE for each');
is(scalar(grep { $_->{event} ne 'CREATE' } @events), 0, '… and nothing else') or diag join ' ', map { "$_->{event}:$_->{name}" } grep { $_->{event} ne 'CREATE' } @events;
unlink "$src/many$_.properties" for 1 .. $n;
ok(eventually(sub { !grep { /^many\d/ } @{ls_names($m->dir)} }, 10), '… and gone');
@events = grep { $_->{name} =~ /^many/ } $w->drain(0.5);
is(scalar(grep { $_->{event} eq 'DELETE' } @events), $n, '… an IN_DELETE for each');

# Coming and going as fast as it goes ends in the truth
for my $i (1 .. 100) { spew("$src/flap.properties", "i=$i\n"); unlink "$src/flap.properties" if $i < 100 }
ok(eventually(sub { ((slurp_errno($m->path('flap.properties')))[0] // '') eq "i=100\n" }, 5), 'one that comes and goes ends there');
unlink "$src/flap.properties";
ok(eventually(sub { !$m->stat('flap.properties') }, 5), '… or not');

# Somebody who looks the name up all the time does not hide the event
my $looker = fork // die;
if (!$looker) { while (1) { stat $m->path('looked.properties'); } }
$w->drain(0.1);
spew("$src/looked.properties", "a=1\n");
ok($w->await('CREATE', 5, 'looked.properties'), 'IN_CREATE also while somebody looks for the name all the time');
kill KILL => $looker;
waitpid $looker, 0;

# Hidden by a directory; a stored directory that goes and comes
rename $src, "$src.away";
ok(eventually(sub { my $l = ls_names($m->dir); !grep { /properties/ } @$l or $m->status->{connectors_by_state}{stale} }, 5),
	'the whole stored directory is moved away: they vanish, or are stale');
rename "$src.away", $src;
ok(eventually(sub { ((slurp_errno($m->path('stay.properties')))[0] // '') eq "a=1\n" }, 40), '… and it comes back');

done_testing;
