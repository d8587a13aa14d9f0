// A custom runtime in C#, for Mono and for .NET Core: the Runtime API by hand over HttpWebRequest.
// Answers {"echo": <event>, "runtime": "..."}; an event that says "fail" is reported as an error.
using System;
using System.IO;
using System.Net;
using System.Text;

public static class Bootstrap
{
    static readonly string Api =
        "http://" + Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/";

    public static int Main()
    {
        while (true)
        {
            var next = (HttpWebRequest)WebRequest.Create(Api + "next");
            next.Timeout = System.Threading.Timeout.Infinite;
            using (var answer = next.GetResponse())
            {
                var id = answer.Headers["Lambda-Runtime-Aws-Request-Id"];
                var body = new StreamReader(answer.GetResponseStream(), Encoding.UTF8).ReadToEnd();
                if (body.Contains("fail"))
                    Post(id + "/error", "{\"errorMessage\":\"told to fail\",\"errorType\":\"CSharp.Failed\",\"stackTrace\":[]}");
                else
                    Post(id + "/response", "{\"echo\":" + body + ",\"runtime\":\"" + Environment.Version + "\"}");
            }
        }
    }

    static void Post(string path, string json)
    {
        var request = (HttpWebRequest)WebRequest.Create(Api + path);
        request.Method = "POST";
        request.ContentType = "application/json";
        var bytes = Encoding.UTF8.GetBytes(json);
        using (var stream = request.GetRequestStream())
            stream.Write(bytes, 0, bytes.Length);
        request.GetResponse().Close();
    }
}
