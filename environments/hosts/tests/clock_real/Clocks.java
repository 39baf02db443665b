/** Tells what a JVM's two clocks read, once for each line that it is given. */
public class Clocks {
    public static void main(String[] args) throws Exception {
        var in = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));
        while (in.readLine() != null) {
            System.out.println(System.currentTimeMillis() * 1_000_000L + " " + System.nanoTime());
            System.out.flush();
        }
    }
}
