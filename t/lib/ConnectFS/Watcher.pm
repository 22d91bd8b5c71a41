package ConnectFS::Watcher;

# inotify by system call: the events of files and directories, in order, as
# { event => 'MODIFY', name => name or '', path => as given }.

use strict;
use warnings;
use Fcntl qw(:DEFAULT);
use POSIX ();
use Time::HiRes qw(sleep time);

my $machine = (POSIX::uname())[4];
my ($INIT1, $ADD) = $machine eq 'x86_64' ? (294, 254) : (26, 27);

my %MASK = (
	ACCESS => 0x1, MODIFY => 0x2, ATTRIB => 0x4, CLOSE_WRITE => 0x8, CLOSE_NOWRITE => 0x10, OPEN => 0x20,
	MOVED_FROM => 0x40, MOVED_TO => 0x80, CREATE => 0x100, DELETE => 0x200, DELETE_SELF => 0x400,
	MOVE_SELF => 0x800, UNMOUNT => 0x2000, OVERFLOW => 0x4000, IGNORED => 0x8000,
);
# What a change makes; opening and reading are left out
my $DEFAULT = 0;
$DEFAULT |= $MASK{$_} for qw(MODIFY ATTRIB CLOSE_WRITE MOVED_FROM MOVED_TO CREATE DELETE DELETE_SELF MOVE_SELF);

sub new {
	my ($class, @paths) = @_;
	my $fd = syscall($INIT1, O_NONBLOCK | 02000000);
	die "inotify_init1: $!" if $fd < 0;
	open(my $fh, '+<&=', $fd) or die "inotify: $!";
	my $self = bless { fh => $fh, fd => $fd, path => {}, seen => [] }, $class;
	$self->add($_) for @paths;
	return $self;
}

sub add {
	my ($self, $path) = @_;
	my $wd = syscall($ADD, $self->{fd}, "$path", $DEFAULT);
	die "inotify_add_watch $path: $!" if $wd < 0;
	$self->{path}{$wd} = $path;
}

sub poll {
	my ($self) = @_;
	my $new = 0;
	while (my $n = sysread($self->{fh}, my $buf, 65536)) {
		my $at = 0;
		while ($at < $n) {
			my ($wd, $mask, undef, $len) = unpack "x$at l L L L", $buf;
			my $name = $len ? unpack('Z*', substr $buf, $at + 16, $len) : '';
			for my $event (grep { $mask & $MASK{$_} } sort keys %MASK) {
				next if $event eq 'IGNORED';
				push @{$self->{seen}}, { event => $event, name => $name, path => $self->{path}{$wd} // '', time => time };
				$new++;
			}
			$at += 16 + $len;
		}
	}
	return $new;
}

# All events until none has come for $quiet seconds
sub drain {
	my ($self, $quiet) = @_;
	$quiet = ($quiet // 0.25);
	my $last = time;
	while (time - $last < $quiet) {
		$last = time if $self->poll;
		sleep 0.005;
	}
	my @all = @{$self->{seen}};
	$self->{seen} = [];
	return @all;
}

sub clear { my ($self) = @_; $self->poll; $self->{seen} = []; return }

# Waits until an event of that kind (and name) has come; true if it has. Keeps all for drain.
sub await {
	my ($self, $event, $seconds, $name) = @_;
	my $end = time + ($seconds // 5) * $ConnectFS::Guard::PATIENCE;
	while (1) {
		$self->poll;
		return 1 if grep { $_->{event} eq $event && (!defined $name || $_->{name} eq $name) } @{$self->{seen}};
		return 0 if time > $end;
		sleep 0.002;
	}
}

# "MODIFY ATTRIB" of the events of one path, in order
sub text {
	my ($path, @events) = @_;
	return join ' ', map { $_->{event} . ($_->{name} ne '' ? ":$_->{name}" : '') } grep { $_->{path} eq $path } @events;
}

1;
