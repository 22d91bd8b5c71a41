package ConnectFS::Mount;

# A connectfs that a test started.

use strict;
use warnings;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time);

our @ALL;

# The command line of a mount
sub command {
	my (%o) = @_;
	my @cmd = ($o{program});
	push @cmd, '-f' unless $o{background};
	push @cmd, '-o', $o{options} if defined $o{options};
	my $s = $o{settings} // {};
	push @cmd, map { ('-s', "$_=$s->{$_}") } sort keys %$s;
	push @cmd, @{$o{args} // []};
	push @cmd, $o{source}, $o{mountpoint};
	unshift @cmd, @{$o{prefix}} if $o{prefix};
	return @cmd;
}

sub start {
	my ($class, %o) = @_;
	my $self = bless { %o, dir => $o{mountpoint} }, $class;
	my $po = { env => $o{env}, dir => $o{run_dir}, out => $o{out}, err => $o{err} };
	my $t0 = time;
	$self->{process} = ConnectFS::Process->new([command(%o)], $po);
	my $end = time + ($o{timeout} // 15) * $ConnectFS::Guard::PATIENCE;
	if ($o{background}) {
		my $r = $self->{process}->finish($end - time);
		$self->{run} = $r;
		$self->{ready_seconds} = $r->{seconds};
		if ($r->{timed_out} || $r->{status} != 0) {
			$self->{failure} = ($r->{timed_out} ? 'timed out; ' : "exit status $r->{status}; ") . $r->{err};
			return $self;
		}
	}
	# Waits until it answers, and it is this one (a dead one may still be there). Opening waits for FUSE_INIT.
	my $status;
	while (1) {
		$status = $self->mounted ? eval { $self->status } : undef;
		last if $status && ($o{background} || $status->{supervisor} == $self->{process}->pid);
		if (time > $end || (!$o{background} && $self->{process}->ended)) {
			my $why = $@;
			my $r = $self->{run} //= $self->{process}->finish(0.1);
			$self->{failure} = ($r->{timed_out} ? "not ready in time ($why); " : "exit status $r->{status}; ") . $r->{err};
			$self->end;
			return $self;
		}
		sleep 0.002;
	}
	$self->{ready_seconds} //= time - $t0;
	$self->{ready} = 1;
	$self->{pids} = { map { $_ => $status->{$_} } qw(supervisor worker notifier) };
	return $self;
}

sub ready { return $_[0]{ready} }
sub failure { return $_[0]{failure} }
sub dir { return $_[0]{dir} }
sub path { my ($self, $name) = @_; return "$self->{dir}/$name" }
sub control { my ($self, $name) = @_; return "$self->{dir}/.connectfs/$name" }

sub mounts { my ($self) = @_; return grep { $_->{at} eq $self->{dir} } ConnectFS::Guard::mounts_below($self->{dir}) }
sub mounted { my ($self) = @_; return scalar grep { $_->{type} eq 'fuse.connectfs' } $self->mounts }

sub _slurp {
	my ($path) = @_;
	open(my $f, '<:raw', $path) or die "$path: $!\n";
	my $all = '';
	while (1) {
		my $n = sysread($f, $all, 65536, length $all);
		die "$path: $!\n" unless defined $n;
		last unless $n;
	}
	return $all;
}

# .connectfs/status.json, decoded
sub status { my ($self) = @_; return JSON::PP->new->utf8->decode(_slurp($self->control('status.json'))) }

# A connector's part of it
sub connector {
	my ($self, $name) = @_;
	my ($found) = grep { $_->{name} eq $name } @{$self->status->{connectors}};
	return $found;
}

# A secret's part of it
sub secret {
	my ($self, $provider, $id) = @_;
	my ($found) = grep { $_->{provider} eq $provider && $_->{id} eq $id } @{$self->status->{secrets}};
	return $found;
}

sub pid { my ($self, $role) = @_; return $self->{pids}{$role} }
# Reads them anew
sub pids { my ($self) = @_; my $s = $self->status; $self->{pids}{$_} = $s->{$_} for qw(supervisor worker notifier); return $self->{pids} }

# The worker that lives now, without asking the mount; undef: there is none just now
sub worker_now {
	my ($self) = @_;
	my $all = ConnectFS::Guard::processes();
	my ($pid) = grep { $all->{$_}[0] == $self->pid('supervisor') && (eval { _slurp("/proc/$_/cmdline") } // '') =~ /role=worker/ } keys %$all;
	return $pid;
}

# (bytes, errno)
sub cat { my ($self, $name) = @_; return ConnectFS::Test::slurp_errno($self->path($name)) }
sub attr { my ($self, $name, $attr) = @_; return ConnectFS::Test::xattr($self->path($name), "user.connectfs.$attr") }
sub stat { my ($self, $name) = @_; return ConnectFS::Test::stx($self->path($name)) }

# What stood on standard error so far
sub log { my ($self) = @_; return $self->{process}->errors }
sub log_lines {
	my ($self, $pattern) = @_;
	return grep { !defined $pattern || $_ =~ $pattern } split /\n/, $self->log;
}
# Lines from here on: my $mark = $m->log_mark; … $m->log_since($mark, qr/…/)
sub log_mark { my ($self) = @_; return length $self->log }
sub log_since {
	my ($self, $mark, $pattern) = @_;
	return grep { !defined $pattern || $_ =~ $pattern } split /\n/, substr $self->log, $mark;
}

# The value of a sample, by a pattern of name and labels; undef if it can't be told
sub metric {
	my ($self, $pattern) = @_;
	for (split /\n/, eval { _slurp($self->control('metrics')) } // '') { return $1 if /^$pattern (\S+)$/ }
	return undef;
}

sub process_gone {
	my ($pid) = @_;
	open(my $f, '<', "/proc/$pid/stat") or return 1;
	my $line = <$f> // return 1;
	return $line =~ /\) Z /;
}

# Is any of it left: the mount or a process?
sub alive {
	my ($self) = @_;
	return 1 if $self->mounts;
	return 1 if $self->{process} && !$self->{background} && !$self->{process}->ended;
	return scalar grep { $_ && !process_gone($_) } values %{$self->{pids} // {}};
}

# SIGTERM to the supervisor; true when all has ended in time, with what was found in $m->{end}
sub stop {
	my ($self, $seconds) = @_;
	my $t0 = time;
	my $sup = $self->{pids}{supervisor};
	if ($self->{background}) { kill TERM => $sup if $sup }
	else { $self->{process}->signal('TERM') }
	return $self->wait_gone($seconds);
}

sub wait_gone {
	my ($self, $seconds) = @_;
	my $t0 = time;
	my $end = $t0 + ($seconds // 5) * $ConnectFS::Guard::PATIENCE;
	while (time < $end) {
		last unless $self->alive;
		sleep 0.005;
	}
	$self->{end_seconds} = time - $t0;
	return !$self->alive;
}

sub exit_status { my ($self) = @_; return $self->{process}->ended ? $self->{process}{wait} : undef }

# However it stands with it, an end
sub end {
	my ($self) = @_;
	kill CONT => grep { $_ } values %{$self->{pids} // {}};
	return if $self->stop(3);
	kill KILL => grep { $_ && !process_gone($_) } values %{$self->{pids} // {}};
	$self->{process}->signal('KILL') unless $self->{background};
	ConnectFS::Guard::detach($_->{at}) for $self->mounts;
	$self->wait_gone(2);
}

1;
