# What is no rotation: unchanged values cause nothing at all. The settings of notification.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "k=1\nother=1\n");
spew("$src/a.properties", "name=a\nk=\${file:$S:k}\n");
spew("$src/never.properties", "name=never\nk=\${file:$S:k}\n");
my $m = mount_fs(source => $src);
my $f = $m->path('a.properties');
read_is($f, "name=a\nk=1\n", 'read');

my $w = watch($m->dir, $f, $m->path('never.properties'));
my $before = $m->stat('a.properties');
my $mark = $m->log_mark;
for my $way (
	['the same bytes in place', sub { spew($S, "k=1\nother=1\n") }],
	['the same bytes renamed over', sub { replace($S, "k=1\nother=1\n") }],
	['another key changed', sub { spew($S, "k=1\nother=2\n") }],
	['the order and form changed', sub { spew($S, "# comment\nother: 2\n k = \\u0031\n") }],
	['touched', sub { utime undef, undef, $S }],
	['its mode changed', sub { chmod 0600, $S; chmod 0644, $S }],
	['something beside it', sub { spew("$sec/beside", 'x'); unlink "$sec/beside" }],
	['the stored file touched', sub { utime 1, 1, "$src/a.properties" }],
	['the stored file written with the same bytes', sub { spew("$src/a.properties", "name=a\nk=\${file:$S:k}\n") }],
	['the stored file renamed over with the same bytes', sub { replace("$src/a.properties", "name=a\nk=\${file:$S:k}\n") }],
) {
	my ($what, $code) = @$way;
	$code->();
	my @events = $w->drain(0.25);
	is(join(' ', map { "$_->{event}:$_->{name}" } @events), '', "$what: no event");
	is($m->stat('a.properties')->{mtime_ns}, $before->{mtime_ns}, '… mtime stays');
	read_is($f, "name=a\nk=1\n", '… and the content');
}
is($m->attr('a.properties', 'version'), 0, 'no rotation so far');
is(scalar(grep { /\ba\b|rotated/ } $m->log_since($mark)), 0, 'no line in the log') or diag join "\n", $m->log_since($mark);

# A secret that nobody read
spew($S, "k=2\nother=2\n");
$w->await('ATTRIB', 5, 'a.properties');
my @events = $w->drain(0.25);
is(join(' ', map { $_->{event} } grep { ($_->{name} || $_->{path}) =~ /never/ } @events), '', 'a connector that nobody has read is not announced when its secret changes');
read_is($m->path('never.properties'), "name=never\nk=2\n", '… but has it when it is read');
is(stx($m->path('never.properties'))->{mtime_ns}, stx("$src/never.properties")->{mtime_ns}, '… still with the mtime of its stored file');

# A stored file that nobody read
spew("$src/unread.properties", "name=unread\n");
ok($w->await('CREATE', 5, 'unread.properties'), 'a new one');
$w->drain(0.2);
$before = $m->stat('unread.properties')->{mtime_ns};
spew("$src/unread.properties", "name=unread\nmore=1\n");
$w->await('ATTRIB', 5, 'unread.properties');
is(ConnectFS::Watcher::text($m->dir, $w->drain(0.25)), 'MODIFY:unread.properties ATTRIB:unread.properties', 'a change of stored bytes is announced even if nobody opened it');
cmp_ok($m->stat('unread.properties')->{mtime_ns}, '>', $before, '… and moves mtime');

# connectfs.notify
for my $c (['modify', 'MODIFY'], ['attrib', 'ATTRIB'], ['modify,attrib', 'MODIFY ATTRIB'], ['none', '']) {
	my ($notify, $want) = @$c;
	my $n = mount_fs(source => $src, settings => { 'connectfs.notify' => $notify });
	my $nf = $n->path('a.properties');
	my $text = slurp($nf);
	my $mtime = stx($nf)->{mtime_ns};
	my $nw = watch($nf);
	spew($S, "k=$notify\nother=2\n");
	eventually(sub { stx($nf)->{mtime_ns} > $mtime }, 5, "connectfs.notify=$notify: mtime moves");
	is(ConnectFS::Watcher::text($nf, $nw->drain(0.2)), $want, '… and the events are ' . ($want || 'none'));
	read_is($nf, "name=a\nk=$notify\n", '… the value is new');
	ok($n->stop, '… ends');
}
my $r = mount_fails(source => $src, settings => { 'connectfs.notify' => 'write' });
is($r->{status}, 2, 'connectfs.notify=write: exit status 2');

done_testing;
