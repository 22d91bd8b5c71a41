import java.nio.file.*;

/** WatchDirectory DIR: prints "ready", then "KIND name" for each event, until it is killed. */
public class WatchDirectory {
    public static void main(String[] args) throws Exception {
        WatchService w = FileSystems.getDefault().newWatchService();
        Paths.get(args[0]).register(w, StandardWatchEventKinds.ENTRY_CREATE, StandardWatchEventKinds.ENTRY_MODIFY,
            StandardWatchEventKinds.ENTRY_DELETE);
        System.out.println("ready");
        while (true) {
            WatchKey k = w.take();
            for (WatchEvent<?> e : k.pollEvents()) System.out.println(e.kind().name() + " " + e.context());
            if (!k.reset()) break;
        }
        System.out.println("gone");
    }
}
