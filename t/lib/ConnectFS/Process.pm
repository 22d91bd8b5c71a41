package ConnectFS::Process;

# A process that a test started, with its output in files.

use strict;
use warnings;
use POSIX ();
use Time::HiRes qw(sleep time);

my %LIVE;
my $count = 0;

sub new {
	my ($class, $cmd, $o) = @_;
	my $dir = $ConnectFS::Guard::BASE . '/run';
	my $id = ++$count;
	my $self = bless { cmd => $cmd, out => $o->{out} // "$dir/out.$id", err => $o->{err} // "$dir/err.$id", t0 => time }, $class;
	my $in = '/dev/null';
	if (defined $o->{stdin}) {
		$in = "$dir/in.$id";
		open(my $f, '>:raw', $in) or die "$in: $!";
		print $f $o->{stdin};
		close $f;
	}
	for (qw(out err)) { open(my $f, '>', $self->{$_}) or die "$self->{$_}: $!" }
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE QUIT);
		setpgrp(0, 0) if $o->{group};
		my $ok = open(STDIN, '<', $in) && open(STDOUT, '>', $self->{out}) && open(STDERR, '>>', $self->{err});
		if ($o->{env}) {
			for (keys %{$o->{env}}) {
				if (defined $o->{env}{$_}) { $ENV{$_} = $o->{env}{$_} } else { delete $ENV{$_} }
			}
		}
		chdir $o->{dir} if $o->{dir};
		{ no warnings; exec { $cmd->[0] } @$cmd if $ok; }
		print STDERR "exec $cmd->[0]: $!\n";
		POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$LIVE{$pid} = $self; # until it has ended, whether anybody still knows it or not
	return $self;
}

sub pid { return $_[0]{pid} }

# Has it ended? Without waiting.
sub ended {
	my ($self) = @_;
	return 1 if defined $self->{wait};
	my $r = waitpid($self->{pid}, POSIX::WNOHANG());
	return 0 if $r == 0;
	$self->{wait} = $r == $self->{pid} ? $? : 0xff00;
	$self->{t1} = time;
	delete $LIVE{$self->{pid}};
	return 1;
}

sub wait_end {
	my ($self, $seconds) = @_;
	my $end = time + $seconds;
	my $nap = 0.001;
	while (!$self->ended) {
		return 0 if time >= $end;
		sleep $nap;
		$nap *= 2 if $nap < 0.01;
	}
	return 1;
}

sub signal { my ($self, $sig) = @_; return $self->ended ? 0 : kill $sig => $self->{pid} }

sub state {
	my ($self) = @_;
	open(my $f, '<', "/proc/$self->{pid}/stat") or return '';
	my $line = <$f> // return '';
	return $line =~ /\) (\S) / ? $1 : '';
}

sub output { return _slurp($_[0]{out}) }
sub errors { return _slurp($_[0]{err}) }

sub _slurp {
	my ($path) = @_;
	open(my $f, '<:raw', $path) or return '';
	local $/;
	return <$f> // '';
}

# Waits for the end (kills at the deadline) and tells all
sub finish {
	my ($self, $seconds) = @_;
	my $timed_out = !$self->wait_end($seconds);
	if ($timed_out) {
		kill KILL => $self->{pid};
		$self->wait_end(5);
	}
	my $w = $self->{wait} // 0xff00;
	return {
		out => $self->output, err => $self->errors, timed_out => $timed_out,
		status => $w & 127 ? -1 : $w >> 8, signal => $w & 127,
		seconds => ($self->{t1} // time) - $self->{t0},
	};
}

sub kill_all {
	for my $p (grep { defined } values %LIVE) {
		next if $p->ended;
		kill KILL => $p->{pid};
		$p->wait_end(2);
	}
}

1;
