# Nobody can change anything: every system call that could, by the owner, another user, and root.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $changes = cc_helper('changes');
my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "k=1\n");
spew("$src/a.properties", "k=\${file:$S:k}\n");
spew("$src/b.properties", "b=1\n");

sub state_of {
	my ($m) = @_;
	my %s;
	for my $name ('', 'a.properties', 'b.properties', '.connectfs') {
		my $st = stx($m->path($name)) or next;
		$s{$name} = join ' ', map { "$_=$st->{$_}" } qw(ino mode type uid gid nlink size mtime_ns);
	}
	$s{names} = join ' ', @{ls_names($m->dir)};
	return \%s;
}

my %also = ( # what is no attempt on a file's content, name or attributes, or needs a descriptor that there can't be
	'fd: write' => qr/^EBADF$/, 'fd: pwrite' => qr/^EBADF$/, 'fd: ftruncate' => qr/^(?:EINVAL|EBADF)$/,
	'fd: fallocate' => qr/^EBADF$/, 'fd: copy_file_range' => qr/^EBADF$/,
	'fd: ioctl(SETFLAGS)' => qr/^(?:ENOTTY|EOPNOTSUPP|ENOSYS)$/, 'fd: O_TMPFILE' => qr/^(?:EOPNOTSUPP|EISDIR)$/,
	'renameat2(EXCHANGE)' => qr/^EINVAL$/, # where the file system does not offer it
	'renameat2(NOREPLACE)' => qr/^EINVAL$/,
);

sub attempt {
	my ($m, $who, @prefix) = @_;
	# The reader of the attributes must be the same before and after
	my $before = state_of($m);
	my $w = watch($m->dir, $m->path('a.properties'));
	my $r = run(@prefix, $changes, $m->dir, 'a.properties', 'b.properties', { timeout => 20 });
	is($r->{status}, 0, "$who: the attempts end") or diag $r->{err};
	my @lines = split /\n/, $r->{out};
	cmp_ok(scalar @lines, '>=', 45, "… " . @lines . ' attempts');
	for (@lines) {
		my ($call, $errno) = /^(.*) (\S+)$/;
		next if $call eq 'no-read';
		# Without allow_other the kernel lets nobody else in at all
		ok($errno =~ /^(?:EROFS|EACCES|EPERM)$/ || ($also{$call} && $errno =~ $also{$call}), "$who: $call fails: $errno");
	}
	my $after = state_of($m);
	is_deeply($after, $before, "$who: nothing has changed");
	my @events = grep { $_->{event} !~ /^CLOSE/ } $w->drain(0.15);
	is(join(' ', map { "$_->{event}:$_->{name}" } @events), '', "$who: no event either");
	return \@lines;
}

my $m = mount_fs(source => $src);
read_is($m->path('a.properties'), "k=1\n", 'read');
attempt($m, is_root() ? 'root on its own mount' : 'the owner');
read_is($m->path('a.properties'), "k=1\n", 'still read');
ok($m->stop, 'ends');

# Files that may be executed or such: no
SKIP: {
	skip 'needs root: other owners', 1 unless is_root();
	chmod 0711, base_dir();
	chmod 0755, $changes;
	my $o = mount_fs(source => $src, options => 'allow_other', settings => { 'connectfs.owner' => 'nobody', 'connectfs.group' => 'nogroup', 'connectfs.mode' => '0444' });
	is($o->stat('a.properties')->{uid}, 65534, 'a mount whose owner is nobody');
	read_is($o->path('a.properties'), "k=1\n", '… read by root');
	attempt($o, 'root');
	attempt($o, 'root without capabilities', no_caps());
	attempt($o, 'the owner, nobody', as_user(65534, 65534));
	attempt($o, 'another user', as_user(12345, 12345));
	# It still rotates
	my $w = watch($o->path('a.properties'));
	spew($S, "k=2\n");
	ok($w->await('ATTRIB', 5), 'while the notifier, who is the owner too, can touch');
	is(ConnectFS::Watcher::text($o->path('a.properties'), $w->drain(0.2)), 'MODIFY ATTRIB', '… and does');
}

done_testing;
