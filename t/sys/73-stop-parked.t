# Stopped while opens wait: they are answered, and the worker ends in order (nothing is used after it was freed).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

# Memory that was freed has other bytes than before (glibc), so that its use shows without a sanitizer too
my %env = (MALLOC_PERTURB_ => 165);

sub round {
	my ($what, $how, $n) = @_;
	my $s = slow_setup({ map { ("c$_.properties" => "a=\${slow:h$_:k}\n") } 1 .. 4 }, 'connectfs.wait.ms' => 100_000);
	slow_set($s, "h$_", 'hang=1') for 1 .. 4;
	my $m = mount_fs(slow => 1, source => $s->{settings}, env => \%env);
	my @openers = map { start(cc_helper('opener'), $m->path('c' . ($_ % 4 + 1) . '.properties')) } 1 .. $n;
	eventually(sub { $m->status->{parked} == $n }, 10, "$what: $n opens wait");
	$how->($m);
	for (@openers) { $_->wait_end(patience(5)) }
	is(scalar(grep { $_->output =~ /^opening\n(EINTR|ECONNABORTED|ENOTCONN)\n/ } @openers), $n, '… all are answered')
		or diag join '', map { $_->output } @openers;
	ok($m->wait_gone(5), '… mount and processes are gone');
	cmp_ok($m->{end_seconds}, '<', patience(2), '… soon');
	is($m->exit_status, 0, '… exit status 0');
	unlike($m->log, qr/level=error|Sanitizer|died/, '… and nobody died') or diag $m->log;
}

round('SIGTERM', sub { kill TERM => $_[0]->pid('supervisor') }, 1);
round('SIGTERM', sub { kill TERM => $_[0]->pid('supervisor') }, 40);
round('umount -l', sub { my ($m) = @_; is_root() ? run('umount', '-l', $m->dir) : run('fusermount3', '-uz', $m->dir); kill TERM => $m->pid('supervisor') }, 8);

# Also those who are killed at that moment, and those who come at that moment
for my $i (1 .. scale(10)) {
	my $s = slow_setup({ 'a.properties' => "a=\${slow:h:k}\n" });
	slow_set($s, 'h', 'hang=1');
	my $m = mount_fs(slow => 1, source => $s->{settings}, env => \%env);
	my @openers = map { start(cc_helper('opener'), $m->path('a.properties')) } 1 .. 10;
	eventually(sub { $m->status->{parked} >= 5 }, 10);
	$_->signal('KILL') for @openers[0 .. 4];
	kill TERM => $m->pid('supervisor');
	push @openers, start(cc_helper('opener'), $m->path('a.properties')) for 1 .. 2;
	my $ended = grep { $_->wait_end(patience(5)) } @openers;
	is($ended, 12, 'killed or answered') or diag $m->log;
	ok($m->wait_gone(5) && $m->exit_status == 0 && $m->log !~ /level=error|Sanitizer|died/, '… and the worker ends in order') or diag $m->log;
}

done_testing;
